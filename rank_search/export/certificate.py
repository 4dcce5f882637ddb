"""Whether consumers of a bundle compute what the trained adapter computes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from rank_search.adapters import Adapter, loaded
from rank_search.core.errors import InputError, RankSearchError, did_you_mean
from rank_search.export.adapter_files import AdapterSettings
from rank_search.export.consumers import readers
from rank_search.export.manifest import FILE, Finding, Manifest
from rank_search.export.probe import FILE as REFERENCE_FILE
from rank_search.export.probe import (
    LEAST_EFFECT,
    Change,
    LoadedBase,
    Reference,
    check_unchanged,
    load_base,
    outputs,
    outputs_with,
    tokens,
    vectors,
)
from rank_search.export.protocol import ADAPTER_FORMATS, Bundle, Reader
from rank_search.export.updates import AppliedUpdates, NotServed, Refused
from rank_search.models.retriever import load_retriever

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from rank_search.export.manifest import AutoClass

# The largest difference that is rounding, as a part of the change that an adapter makes.
_TOLERANCE = 0.01  # far above rounding in float32, far below any wrong scale
_HALF_TOLERANCE = 0.1  # where the adapter is merged into weights of half precision


def certified_labels(form: str, auto_class: AutoClass) -> tuple[str, ...]:
    """Labels of the readers that a format is written for, which must all compute what the trained adapter does.

    Args:
        form: the format.
        auto_class: the kind of base model; whole embedders are computed for embedders alone.
    """
    return tuple(
        reader.label
        for reader in readers()
        if form in reader.certified and (not reader.embeds or auto_class in reader.auto_classes)
    )


def prevents_export(finding: Finding, form: str) -> bool:
    """Whether a bundle must not be written.

    A consumer that computes something else would do so in silence. A consumer that refuses the bundle says so itself;
    then others can still read it, unless the format is the consumer's own.
    """
    is_native = any(reader.label == finding.label and form in reader.native for reader in readers())
    return finding.passed is False and (finding.difference is not None or is_native)


def bundles(folder: Path) -> list[Path]:
    """The bundles in a folder: itself, or those of its base models.

    Raises:
        InputError: it holds none.
    """
    found = [path.parent for path in (folder / FILE, *sorted(folder.glob(f"*/{FILE}"))) if path.is_file()]
    if not found:
        raise InputError(
            f"{str(folder)!r} holds no {FILE}; name a folder that export wrote with --to peft, compact, "
            "padded, gguf or merged",
            field="DIR",
        )
    return found


def measure_reference(base: LoadedBase, adapter: Path, *, embedder: bool = False) -> Reference:
    """The base model's outputs on the fixed inputs, without and with the trained adapter under PEFT.

    Args:
        base: the base model.
        adapter: the trained adapter.
        embedder: measure the vectors of the whole embedder too.

    Raises:
        RankSearchError: the adapter changes so little that a wrong scale would look like rounding.
    """
    ids, mask = tokens(base.tokenizer)
    trained = Adapter.load(adapter)
    # A scale does not apply to a classifier's head, whose large change would hide an error of the scale.
    head = trained.head if trained.factors else {}
    before = outputs_with(base, AppliedUpdates({}, head), ids, mask)
    with loaded(base.model, adapter):
        reference = Reference(before, outputs(base.model, ids, mask), ids, mask)
    if embedder:
        reference = _with_vectors(reference, base, adapter)
    for change in filter(None, (reference, reference.vectors)):
        if not change.effect >= LEAST_EFFECT:
            raise RankSearchError(
                f"the adapter changes outputs by {change.effect:.1e} of the largest, too little to distinguish a "
                "wrong scale from rounding; nothing can be certified"
            )
    return reference


def _with_vectors(reference: Reference, base: LoadedBase, adapter: Path) -> Reference:
    """Adds what the adapter changes in the vectors of a sentence embedder."""
    retriever = load_retriever(base.source, torch.device("cpu"))
    before = vectors(retriever)
    with loaded(retriever.encoder.backbone, adapter):
        return replace(reference, base_vectors=before, adapted_vectors=vectors(retriever))


def verify(folder: Path, names: Sequence[str] | None, *, trust_remote_code: bool = False) -> tuple[Finding, ...]:
    """Computes a bundle's certificate again.

    Args:
        folder: the bundle.
        names: labels of the readers to try; None for those that its format is written for; empty for all.
        trust_remote_code: run Python code that the base model ships.

    Raises:
        InputError: the folder is no bundle, is damaged, its base model has changed, or no such reader opens its format.
    """
    manifest, reference = Manifest.read(folder), Reference.load(folder)
    known = [reader.label for reader in readers() if manifest.format in reader.formats]
    if not known:
        raise InputError(
            f"{manifest.format!r} is no format of bundles; export again", file=str(folder / FILE), field="format"
        )
    manifest.check_weights(folder)
    if names is None:
        names = certified_labels(manifest.format, manifest.base.auto_class)
    for name in names:
        if name not in known:
            raise InputError(f"{name!r} reads no {manifest.format}; {did_you_mean(name, known)}", field="--consumer")
    if manifest.format in ADAPTER_FORMATS:
        AdapterSettings.read(folder)  # so that a damaged file is an error, not the refusal of one reader
    _check_outputs(manifest, reference, folder)
    source = manifest.base.located(trust_remote_code=trust_remote_code)
    base = load_base(source, manifest.base.auto_class, manifest.base.classes)
    check_unchanged(manifest.base, base)
    _check_tokens(base, reference, folder)
    if manifest.format in ADAPTER_FORMATS:
        _ = Bundle(folder, base, reference).adapter  # checks its settings against its tensors
    return certify(folder, manifest, base, reference, names or known)


def _check_outputs(manifest: Manifest, reference: Reference, folder: Path) -> None:
    """Checks, before a base model is loaded with so many classes, that the reference has outputs of so many.

    Raises:
        InputError: it has not.
    """
    classes, shape = manifest.base.classes, reference.adapted.shape
    if classes and shape != (len(reference.ids), classes):
        raise InputError(
            f"is {classes}, but the outputs in certificate/ are {tuple(shape)}; export again",
            file=str(folder / FILE),
            field="base.classes",
        )


def _check_tokens(base: LoadedBase, reference: Reference, folder: Path) -> None:
    """Checks that a base model has an embedding for each token of the reference.

    Raises:
        InputError: it has not.
    """
    embeddings: Any = base.model.get_input_embeddings()
    if reference.ids.min() < 0 or reference.ids.max() >= len(embeddings.weight):
        raise InputError(
            f"has tokens that {str(folder)!r}'s base model does not have; export again",
            file=str(folder / REFERENCE_FILE),
        )


def certify(
    folder: Path, manifest: Manifest, base: LoadedBase, reference: Reference, names: Sequence[str]
) -> tuple[Finding, ...]:
    """What readers compute with a bundle.

    Args:
        folder: the bundle.
        manifest: its origin.
        base: its base model.
        reference: the outputs that they must reach.
        names: labels of the readers to try.

    Raises:
        InputError: the ranks or the parameters that the manifest, and so the model card, states are not the weights'.
    """
    _check_stated(folder, manifest)
    bundle = Bundle(folder, base, reference)
    return tuple(_finding(reader, bundle, manifest) for reader in readers() if reader.label in names)


def _check_stated(folder: Path, manifest: Manifest) -> None:
    """Checks what a bundle states of its weights, where its format keeps each module's rank.

    Raises:
        InputError: the ranks, or the trainable parameters, are others.
    """
    if manifest.format not in {"peft", "compact"}:
        return
    file, factors = str(folder / FILE), Adapter.load(folder).factors
    ranks = {name: len(a) for name, (a, _) in factors.items()}
    stated = {name: rank for name, rank in manifest.ranks.items() if rank}
    if wrong := sorted(name for name in ranks.keys() | stated.keys() if ranks.get(name) != stated.get(name)):
        problem = (
            f"says rank {stated.get(wrong[0], 0)}, but the weights have rank {ranks.get(wrong[0], 0)}; export again"
        )
        raise InputError(problem, file=file, field=f"ranks.{wrong[0]}")
    parameters = sum(a.numel() + b.numel() for a, b in factors.values())
    if parameters != manifest.trainable_parameters:
        problem = f"says {manifest.trainable_parameters:,}, but the weights have {parameters:,}; export again"
        raise InputError(problem, file=file, field="trainable_parameters")


def _finding(reader: Reader, bundle: Bundle, manifest: Manifest) -> Finding:
    installed = reader.installed_version if reader.can_run(bundle.base) else None
    common: dict[str, Any] = {"label": reader.label, "consumer": reader.name}
    common |= {"version": installed or reader.rules_version, "real": installed is not None}
    if reason := reader.why_not(manifest.base.auto_class, type(bundle.base.model).__name__):
        return Finding(**common, passed=None, note=reason)
    try:
        found = _outputs(reader, installed, bundle)
    except NotServed as error:
        return Finding(**common, passed=None, note=str(error))
    except Refused as refusal:
        return Finding(**common, passed=False, note=f"refuses it: {refusal}")
    except RankSearchError:
        raise
    except Exception as error:  # a consumer's own code may refuse with any exception
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return Finding(**common, passed=False, note=f"refuses it: {reason}")
    reference: Change = (bundle.reference.vectors if reader.embeds else None) or bundle.reference
    if found.shape != reference.adapted.shape:
        note = f"outputs {tuple(found.shape)}, not {tuple(reference.adapted.shape)}"
        return Finding(**common, passed=False, note=note)
    difference, of_output = reference.difference(found), reference.of_output(found)
    half_precision = manifest.format == "merged" and manifest.base.dtype != "float32"
    tolerance = _HALF_TOLERANCE if half_precision else _TOLERANCE
    return Finding(**common, passed=difference <= tolerance, difference=difference, of_output=of_output)


def _outputs(reader: Reader, installed: str | None, bundle: Bundle) -> Tensor:
    """By the consumer's own code where it is installed, else by the model of its rules.

    Raises:
        NotServed: the bundle does not hold what to compare with.
        RankSearchError: it is installed, but can't be imported here.
    """
    if reader.embeds and bundle.reference.vectors is None:
        raise NotServed("not tried, as the bundle holds no vectors to compare; export again")
    read = reader.own_code if installed else reader.rules
    if read is None:
        raise RankSearchError(f"{reader.name} is not installed")
    try:
        result = read(bundle)
    except ImportError as error:
        raise RankSearchError(
            f"{reader.package} {installed} is installed, but can't be imported here ({error}); fix it, or "
            "verify where it is not installed, by a model of its rules"
        ) from error
    if not isinstance(result, AppliedUpdates):
        return result
    return outputs_with(bundle.base, result, bundle.reference.ids, bundle.reference.mask)
