"""Programs that exports are for: every module in this folder is one, and holds all that is known of it.

To add a program, add a module here that sets ``CONSUMER`` to a `Consumer`: nothing else lists them. A trainer's script
template, ``NAME.py.j2``, lies beside its module. Modules import torch only inside functions, so that ``export --to``
can name all formats without it.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rank_search.export.protocol import Consumer, Reader, Refusal, Trainer

__all__ = ["consumers", "readers", "refusals", "trainers"]


def consumers() -> tuple[Consumer, ...]:
    """All of them, by their position, then by the name of their module."""
    names = sorted(module.name for module in iter_modules(__path__))
    found: list[Consumer] = [import_module(f"{__name__}.{name}").CONSUMER for name in names]
    return tuple(sorted(found, key=lambda consumer: consumer.position))


def readers() -> tuple[Reader, ...]:
    """All that load exported weights, in the order of their consumers."""
    return tuple(reader for consumer in consumers() for reader in consumer.readers)


def trainers() -> dict[str, Trainer]:
    """All that train a map, by label, in the order of their consumers."""
    found = [consumer.trainer for consumer in consumers() if consumer.trainer]
    return {trainer.label: trainer for trainer in found}


def refusals() -> dict[str, Refusal]:
    """Why some programs get no export, by label."""
    found = [consumer.refusal for consumer in consumers() if consumer.refusal]
    return {refusal.label: refusal for refusal in found}
