"""What a module's name tells of its place in a model."""

from __future__ import annotations

import re

_ATTENTION = re.compile("attn|attention", re.IGNORECASE)
_LAYER = re.compile(r"^(.*?\.\d+)\.(.+)$")


def layer_of(name: str) -> str:
    """The layer a module belongs to, such as ``encoder.layer.3``; a module outside layers is its own."""
    match = _LAYER.match(name)
    return match.group(1) if match else name


def kind_of(name: str) -> str:
    """A module's name within its layer, such as ``self_attn.q_proj``; of one outside layers, its whole name."""
    return name.removeprefix(f"{layer_of(name)}.")


def block_of(name: str) -> str:
    """The module's layer and its half of it, such as ``encoder.layer.3/attention``."""
    match = _LAYER.match(name)
    if not match:
        return name
    return f"{match.group(1)}/{'attention' if _ATTENTION.search(match.group(2)) else 'feed-forward'}"
