"""Loads saved adapters into their base models with PEFT, as their users will."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from peft import LoraConfig, PeftModel

from rank_search.adapters.lora import base_models
from rank_search.adapters.saving import ADAPTER, adapter_folder
from rank_search.models.modules import linear_modules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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
    head = LoraConfig.from_pretrained(str(folder)).modules_to_save or ()
    with restored(model, [*head, *linear_modules(model)]):  # PEFT leaves its layers behind if it raises
        with known_warnings():
            peft_model = PeftModel.from_pretrained(model, folder, adapter_name=ADAPTER)
        try:
            yield
        finally:
            peft_model.unload()


@contextmanager
def restored(model: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Puts a model's own modules back at the end.

    PEFT's ``unload`` does not do so for heads: it leaves the trained copies in place.
    """
    originals = {name: model.get_submodule(name) for name in names}
    try:
        yield
    finally:
        for name, module in originals.items():
            model.set_submodule(name, module)
            module.requires_grad_(requires_grad=False)


@contextmanager
def known_warnings() -> Iterator[None]:
    """Silences a warning of transformers 5.23 that PEFT 0.21 causes and the user can't fix."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield
