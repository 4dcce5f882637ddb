"""Who reads bundles: by its own code where it is installed, by a model of its rules elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from torch import Tensor

from rank_search.adapters import loaded
from rank_search.export import architectures, installed, rules
from rank_search.export.gguf_file import FILE as GGUF
from rank_search.export.probe import CLASSES, LoadedBase, Reference, outputs, updated
from rank_search.export.rules import AdapterFolder, Reading, Refused
from rank_search.models.modules import linear_modules

if TYPE_CHECKING:
    from rank_search.export.manifest import AutoClass

Run = Callable[[Path, LoadedBase, Reference], Tensor]


@dataclass(frozen=True)
class Consumer:
    """One reader of bundles.

    Attributes:
        label: by which a command names it.
        name: its own.
        package: that holds its code.
        formats: what it can open.
        serves: the kinds of base model that it takes adapters for.
        without: classes of base models among these, that it takes none for.
        own: outputs for a bundle on the fixed inputs, by its own code; None where that can't be run.
        runs: the base models that its own code can be run on here.
        modelled: the same by a model of its rules; None where it is always installed.
        read_in: the version, or commit, whose source the model of its rules was read in.
        versions: those of the package that it is, such as ``<=0.31.0``; empty for any.
    """

    label: str
    name: str
    package: str
    formats: frozenset[str]
    serves: frozenset[AutoClass]
    without: frozenset[str] = frozenset()
    own: Run | None = None
    runs: Callable[[LoadedBase], bool] = lambda _base: True
    modelled: Run | None = None
    read_in: str = ""
    versions: str = ""

    @property
    def installed(self) -> str | None:
        """Its version here, if its own code can be run at all."""
        try:
            found = version(self.package)
        except PackageNotFoundError:
            return None
        return found if self.own and Version(found) in SpecifierSet(self.versions, prereleases=True) else None


def _by(rule: Callable[[AdapterFolder], Reading]) -> Run:
    """Runs the base model with what a rule reads out of an adapter's files."""
    return _reads(lambda folder, base: rule(AdapterFolder.read(folder, linear_modules(base.model))))


def _reads(read: Callable[[Path, LoadedBase], Reading]) -> Run:
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


_ADAPTERS, _GGUF, _MERGED = frozenset({"peft", "compact", "padded"}), frozenset({"gguf"}), frozenset({"merged"})
_ANY: frozenset[AutoClass] = frozenset(CLASSES)
_CAUSAL: frozenset[AutoClass] = frozenset({"AutoModelForCausalLM"})

CONSUMERS = (
    Consumer("peft", "PEFT", "peft", _ADAPTERS, _ANY, own=_peft),
    Consumer("transformers", "transformers", "transformers", _MERGED, _ANY, own=_transformers),
    Consumer(
        "axolotl",
        "axolotl",
        "axolotl",
        _ADAPTERS,
        _CAUSAL,
        own=_reads(installed.axolotl),
        modelled=_by(rules.axolotl),
        read_in="0.19.0",
    ),
    Consumer(
        "vllm-0.31",
        "vLLM ≤ 0.31",
        "vllm",
        _ADAPTERS,
        _ANY,
        without=architectures.VLLM_TO_0_31,
        own=_reads(installed.vllm),
        modelled=_by(rules.vllm_to_0_31),
        read_in="0.31.0",
        versions="<0.32.0",
    ),
    Consumer(
        "vllm",
        "vLLM ≥ 0.32",
        "vllm",
        _ADAPTERS,
        _ANY,
        without=architectures.VLLM_FROM_0_32,
        own=_reads(installed.vllm),
        modelled=_by(rules.vllm_from_0_32),
        read_in="0.33.0",
        versions=">=0.32.0",
    ),
    Consumer(
        "sglang",
        "SGLang",
        "sglang",
        _ADAPTERS,
        _CAUSAL,
        own=_reads(installed.sglang),
        modelled=_by(rules.sglang),
        read_in="0.5.23",
    ),
    Consumer("lorax", "LoRAX", "lorax-server", _ADAPTERS, _CAUSAL, modelled=_by(rules.lorax), read_in="03679f3"),
    Consumer("tgi", "TGI", "text-generation-server", _ADAPTERS, _CAUSAL, modelled=_by(rules.tgi), read_in="45d95bd"),
    Consumer(
        "llama.cpp",
        "llama.cpp",
        "llama-cpp-python",
        _GGUF,
        _CAUSAL | {"AutoModel"},
        own=installed.llama_cpp,
        runs=lambda base: base.gguf is not None,
        modelled=_reads(_modelled_llama_cpp),
        read_in="llama-cpp-python 0.3.36",
    ),
)
