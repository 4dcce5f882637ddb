"""Who reads bundles: by its own code where it is installed, by a model of its rules elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import torch
from packaging.version import Version

from rank_search.adapters import loaded
from rank_search.export import installed, rules
from rank_search.export.gguf_file import FILE as GGUF
from rank_search.export.probe import CLASSES, LoadedBase, outputs, updated
from rank_search.export.rules import AdapterFolder, Reading, Refused
from rank_search.modules import linear_modules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from rank_search.export.manifest import AutoClass
    from rank_search.export.probe import Reference

_FLOAT = 0.01  # far above rounding in float32, far below any wrong scale
_QUANTISED = 0.1  # llama.cpp computes with the weights as they are quantised, and quantises activations too

_ADAPTERS = frozenset({"peft", "compact", "padded"})


@dataclass(frozen=True)
class Consumer:
    """One reader of bundles, at a version.

    Attributes:
        label: by which a command names it.
        name: its own.
        version: of its installed code, or those that the model of its rules stands for.
        real: its own code computes.
        formats: what it can open.
        serves: the kinds of base model that it takes adapters for.
        run: its outputs for a bundle on the fixed inputs.
        tolerance: the largest difference that is rounding, as a part of the change that an adapter makes.
    """

    label: str
    name: str
    version: str
    real: bool
    formats: frozenset[str]
    serves: frozenset[AutoClass]
    run: Callable[[Path, LoadedBase, Reference], Tensor]
    tolerance: float = _FLOAT


def consumers() -> list[Consumer]:
    """All that are known, the installed ones as themselves."""
    anything = frozenset(CLASSES)
    causal: frozenset[AutoClass] = frozenset({"AutoModelForCausalLM"})
    merged = frozenset({"merged"})
    found = [
        Consumer("peft", "PEFT", version("peft"), True, _ADAPTERS, anything, _peft),
        Consumer("transformers", "transformers", version("transformers"), True, merged, anything, _transformers),
    ]
    axolotl = _installed("axolotl")
    reads = _reads(installed.axolotl if axolotl else _modelled(rules.axolotl))
    found.append(Consumer("axolotl", "axolotl", axolotl or "0.19.0", bool(axolotl), _ADAPTERS, causal, reads))
    found += _vllm(anything)
    sglang = _installed("sglang")
    reads = _reads(installed.sglang if sglang else _modelled(rules.sglang))
    found.append(Consumer("sglang", "SGLang", sglang or "0.5.23", bool(sglang), _ADAPTERS, causal, reads))
    reads = _reads(_modelled(rules.lorax))
    found.append(Consumer("lorax", "LoRAX, TGI", "main, 3.3", False, _ADAPTERS, causal, reads))
    return [*found, *_llama_cpp(frozenset({"AutoModelForCausalLM", "AutoModel"}))]


def _vllm(serves: frozenset[AutoClass]) -> list[Consumer]:
    """Both sides of the release that changed its rules; the installed one as itself."""
    sides = [("vllm-0.31", "≤ 0.31.0", rules.vllm_to_0_31), ("vllm", "≥ 0.32.0", rules.vllm_from_0_32)]
    found = _installed("vllm")
    newer = found is not None and Version(found) >= Version("0.32.0")
    rows = []
    for i, (label, versions, rule) in enumerate(sides):
        here = found is not None and newer == bool(i)
        reads = _reads(installed.vllm if here else _modelled(rule))
        shown = found if here and found else versions
        rows.append(Consumer(label, "vLLM", shown, here, _ADAPTERS, serves, reads))
    return rows


def _llama_cpp(serves: frozenset[AutoClass]) -> list[Consumer]:
    """Itself where it is installed; it is run where there is a GGUF file of the base model."""
    found = _installed("llama_cpp_python")
    shown, gguf = found or "llama-cpp-python 0.3.36", frozenset({"gguf"})
    if found:
        return [Consumer("llama.cpp", "llama.cpp", shown, True, gguf, serves, installed.llama_cpp, _QUANTISED)]
    return [Consumer("llama.cpp", "llama.cpp", shown, False, gguf, serves, _reads(_modelled_llama_cpp))]


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _modelled(rule: Callable[[AdapterFolder], Reading]) -> Callable[[Path, LoadedBase], Reading]:
    return lambda folder, base: rule(AdapterFolder.read(folder, linear_modules(base.model)))


def _reads(read: Callable[[Path, LoadedBase], Reading]) -> Callable[[Path, LoadedBase, Reference], Tensor]:
    """Runs the base model with what a consumer read out of a bundle."""

    def run(folder: Path, base: LoadedBase, reference: Reference) -> Tensor:
        return run_with(base, read(folder, base), reference.ids, reference.mask)

    return run


def run_with(base: LoadedBase, reading: Reading, ids: Tensor, mask: Tensor) -> Tensor:
    """Outputs of the base model with what a consumer adds to it, and puts in its place.

    Raises:
        Refused: there is no such module in the base model.
    """
    if strangers := sorted(reading.updates.keys() - linear_modules(base.model).keys()):
        raise Refused(f"the base model has no linear layer {strangers[0]!r}")
    originals = {name: base.model.get_parameter(name).data for name in reading.replaced}
    try:
        for name, tensor in reading.replaced.items():
            base.model.get_parameter(name).data = tensor.float()
        with updated(base.model, reading.updates):
            return outputs(base.model, ids, mask)
    finally:
        for name, tensor in originals.items():
            base.model.get_parameter(name).data = tensor


def _peft(folder: Path, base: LoadedBase, reference: Reference) -> Tensor:
    with loaded(base.model, folder):
        return outputs(base.model, reference.ids, reference.mask)


def _transformers(folder: Path, base: LoadedBase, reference: Reference) -> Tensor:
    model = type(base.model).from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    return outputs(model, reference.ids, reference.mask)


def _modelled_llama_cpp(folder: Path, base: LoadedBase) -> Reading:
    settings = base.model.config
    return rules.llama_cpp(folder / GGUF, settings.model_type, settings.to_dict(), linear_modules(base.model))
