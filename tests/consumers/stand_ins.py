"""Runs `rank_search` where SGLang is importable but torchvision is not: stand_ins.py verify DIR …

SGLang imports torchvision, whose wheels on PyPI need another build of torch than the one for CPUs; axolotl imports
bitsandbytes and a telemetry client. Their adapter classes use none of these.
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


PARTS = {
    "torchvision": ("", ".io", ".transforms", ".transforms.functional", ".transforms.v2"),
    "bitsandbytes": ("", ".nn", ".functional"),
    "posthog": ("",),
}


def stand_in_for(*libraries: str) -> None:
    """Puts stand-ins in their place, after importing what uses the libraries if they are there."""
    import peft  # noqa: F401
    from transformers import AutoProcessor  # noqa: F401

    for name in (library + part for library in libraries for part in PARTS[library]):
        module = StandIn(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.__path__ = []
        sys.modules[name] = module


if __name__ == "__main__":
    stand_in_for("torchvision")
    from rank_search.cli.main import main

    main()
