"""Loads saved adapters into their base models with PEFT, as their users will."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from peft import PeftModel

from rank_search.adapters.lora import base_models
from rank_search.adapters.saving import ADAPTER, adapter_folder
from rank_search.models.restoring import restored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn


@contextmanager
def loaded(backbone: nn.Module, folder: Path) -> Iterator[None]:
    """Loads saved adapters into their base models, and removes them at the end."""
    with ExitStack() as stack:
        for prefix, model in base_models(backbone).items():
            saved = adapter_folder(folder, prefix)
            if saved.is_dir():
                stack.enter_context(_loaded(model, saved))
        yield


@contextmanager
def _loaded(model: nn.Module, folder: Path) -> Iterator[None]:
    # PEFT leaves its layers behind if it raises, and its ``unload`` the trained copies of heads.
    with restored(model):
        with known_warnings():
            peft_model = PeftModel.from_pretrained(model, folder, adapter_name=ADAPTER)
        try:
            yield
        finally:
            peft_model.unload()


@contextmanager
def known_warnings() -> Iterator[None]:
    """Silences a warning of transformers 5.23 that PEFT 0.21 causes and the user can't fix."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield
