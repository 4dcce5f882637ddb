"""What each module of `rank_search.export.consumers` says about one program, as ``CONSUMER``.

Nothing here imports torch, so that the names of formats can be listed at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from rank_search.export.adapter_files import AdapterFiles
    from rank_search.export.manifest import AutoClass
    from rank_search.export.probe import LoadedBase, Reference
    from rank_search.export.training_plan import TrainingPlan
    from rank_search.export.updates import AppliedUpdates

BUNDLE_FORMATS = ("peft", "compact", "padded", "gguf", "merged")  # of trained weights
ADAPTER_FORMATS = frozenset({"peft", "compact", "padded"})  # those with PEFT's two files
CAUSAL_LMS: frozenset[AutoClass] = frozenset({"AutoModelForCausalLM"})
EMBEDDERS: frozenset[AutoClass] = frozenset({"AutoModel", "AutoModelForTextEncoding"})
ALL_MODELS: frozenset[AutoClass] = CAUSAL_LMS | EMBEDDERS | {"AutoModelForSequenceClassification"}
# The reason of several refusals.
ONE_RANK = "knows one rank for all modules, so no rank map; train with --to trl, axolotl or lora-config (PEFT)"


@dataclass(frozen=True)
class Bundle:
    """A folder of exported weights, and what a consumer of it is tried on.

    Attributes:
        folder: the exported files.
        base: the base model that they belong to.
        reference: fixed inputs, and the outputs that a consumer must reach.
    """

    folder: Path
    base: LoadedBase
    reference: Reference

    @cached_property
    def adapter(self) -> AdapterFiles:
        """PEFT's two files in the folder.

        Raises:
            InputError: one is missing or damaged.
        """
        from rank_search.export.adapter_files import AdapterFiles
        from rank_search.models.modules import linear_modules

        return AdapterFiles.read(self.folder, linear_modules(self.base.model))


@dataclass(frozen=True)
class Reader:
    """A program, or a range of its versions, that loads exported weights.

    Attributes:
        label: its name in commands, such as ``verify --consumer LABEL``.
        name: its name in prose.
        package: the Python package that holds its code.
        formats: the formats that it can open.
        auto_classes: the kinds of base model that it takes adapters for.
        certified: the formats that are written for it: an export fails if it computes anything else with one of these.
        native: the formats that are its own: an export in one of these also fails if it refuses the bundle.
        unsupported: base models, by their class in transformers, that it takes no adapters for.
        supported: those that it takes adapters for, by its source; of all others nothing is known. None for all.
        own_code: loads a bundle with the program's own code, and returns what it changes in the base model, or its
            outputs on the fixed inputs; None if that code can't run here. Any exception of it is a refusal.
        can_run: whether the program's own code can run on a base model here.
        rules: returns the same by a model of the program's rules, for where it is not installed; None if it always is.
        embeds: it computes the vectors of a sentence embedder, not the outputs of the model inside.
        rules_version: the version or commit whose source the rules were read in.
        versions: the versions of the package that this reader stands for, such as ``<0.32.0``; empty for all.
        release: the release on PyPI whose own code ``make consumers`` compares with the rules; empty for none.
    """

    label: str
    name: str
    package: str
    formats: frozenset[str]
    auto_classes: frozenset[AutoClass]
    certified: frozenset[str] = frozenset()
    native: frozenset[str] = frozenset()
    unsupported: frozenset[str] = frozenset()
    supported: frozenset[str] | None = None
    own_code: Callable[[Bundle], AppliedUpdates | Tensor] | None = None
    can_run: Callable[[LoadedBase], bool] = lambda _base: True
    rules: Callable[[Bundle], AppliedUpdates] | None = None
    embeds: bool = False
    rules_version: str = ""
    versions: str = ""
    release: str = ""

    @property
    def installed_version(self) -> str | None:
        """The version of the package here, if this reader stands for it and can run its code."""
        try:
            found = version(self.package)
        except PackageNotFoundError:
            return None
        return found if self.own_code and Version(found) in SpecifierSet(self.versions, prereleases=True) else None

    def why_not(self, auto_class: AutoClass, architecture: str) -> str | None:
        """Why it can't be said to take adapters for a base model; None if it takes them.

        Args:
            auto_class: the kind of base model.
            architecture: its class in transformers.
        """
        if auto_class not in self.auto_classes or architecture in self.unsupported:
            return f"takes no adapters for {architecture}"
        if self.supported is not None and architecture not in self.supported:
            return f"not known: its source was not read for {architecture}"
        return None


@dataclass(frozen=True)
class Trainer:
    """A program that trains a rank map afresh, from a configuration or a script.

    Attributes:
        label: the name of its format, as in ``export --to LABEL``.
        name: its name in prose.
        write: writes for one base model into a folder, and returns lines to print.
        causal_lms_only: whether it trains causal LMs only.
        reads_gguf: whether it trains a model from a GGUF file.
        releases: the releases on PyPI with which ``make consumers`` tries what was written.
    """

    label: str
    name: str
    write: Callable[[TrainingPlan, Path], list[str]]
    causal_lms_only: bool = True
    reads_gguf: bool = True
    releases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """Why nothing is exported for a program.

    Attributes:
        label: the name that a user may try, as in ``export --to LABEL``.
        reason: a verb phrase that says why not, and what to use instead.
    """

    label: str
    reason: str


@dataclass(frozen=True)
class ServedBundle:
    """What a note on serving depends on.

    Attributes:
        folder: the bundle.
        auto_class: the kind of its base model.
        passed: names of the consumer's readers that computed the right outputs, at least one.
    """

    folder: Path
    auto_class: AutoClass
    passed: tuple[str, ...]

    @property
    def top_rank(self) -> int:
        """The highest rank of any module, of a bundle in PEFT's format."""
        from rank_search.export.adapter_files import AdapterSettings

        return AdapterSettings.read(self.folder).top_rank


@dataclass(frozen=True)
class Consumer:
    """A program that exports are for: all that is known of it.

    Attributes:
        name: its name in prose.
        readers: one for each range of versions that loads weights in its own way.
        trainer: how it trains a map; None if it trains none.
        refusal: why nothing is exported for it; None if something is.
        serving_note: how to serve a bundle with it, in a sentence; None if there is nothing to say.
        position: its place in certificates and lists, lowest first; consumers of one position stand by module name.
    """

    name: str
    readers: tuple[Reader, ...] = ()
    trainer: Trainer | None = None
    refusal: Refusal | None = None
    serving_note: Callable[[ServedBundle], str] | None = None
    position: int = 100

    def __post_init__(self) -> None:
        parts: tuple[Any, ...] = (*self.readers, self.trainer, self.refusal)
        if not any(parts):
            raise ValueError(f"consumer {self.name!r} has no reader, no trainer and no refusal")
