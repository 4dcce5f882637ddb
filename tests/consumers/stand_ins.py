"""Runs `rank_search` where SGLang is importable but torchvision is not: stand_ins.py verify DIR …

SGLang imports torchvision, whose wheels on PyPI need another build of torch than the one for CPUs; its adapter classes
use nothing of it.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types


class StandIn(types.ModuleType):
    """A module of which anything can be imported."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stand_in_for_torchvision() -> None:
    """Puts stand-ins in its place; transformers must be imported by then, or it would take them for the library."""
    from transformers import AutoProcessor  # noqa: F401

    for name in ("", ".io", ".transforms", ".transforms.functional", ".transforms.v2"):
        module = StandIn(f"torchvision{name}")
        module.__spec__ = importlib.machinery.ModuleSpec(f"torchvision{name}", None)
        module.__path__ = []
        sys.modules[f"torchvision{name}"] = module


if __name__ == "__main__":
    stand_in_for_torchvision()
    from rank_search.cli import main

    main()
