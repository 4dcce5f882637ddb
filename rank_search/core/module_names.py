"""Reads a module's layer, kind and block from its dotted name."""

from __future__ import annotations

import re

_ATTENTION = re.compile("attn|attention", re.IGNORECASE)
_LAYER = re.compile(r"^(.*?\.\d+)\.(.+)$")


def layer_of(name: str) -> str:
    """The layer that holds a module, such as ``encoder.layer.3``; for a module outside all layers, its own name."""
    match = _LAYER.match(name)
    return match.group(1) if match else name


def kind_of(name: str) -> str:
    """A module's name within its layer, such as ``self_attn.q_proj``; for a module outside all layers, its own name."""
    return name.removeprefix(f"{layer_of(name)}.")


def block_of(name: str) -> str:
    """The layer and the half of it that hold a module, such as ``encoder.layer.3/attention``."""
    match = _LAYER.match(name)
    if not match:
        return name
    return f"{match.group(1)}/{'attention' if _ATTENTION.search(match.group(2)) else 'feed-forward'}"
