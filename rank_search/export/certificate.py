"""Whether consumers of a bundle compute what the trained adapter computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rank_search.adapters import Adapter, loaded
from rank_search.core.errors import InputError, RankSearchError, did_you_mean
from rank_search.export.consumers import CONSUMERS, Consumer, run_with
from rank_search.export.manifest import FILE, Finding, Manifest
from rank_search.export.probe import LoadedBase, Reference, check_unchanged, load_base, outputs, tokens
from rank_search.export.rules import AdapterSettings, NotServed, Reading, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

# The consumers that each format is for.
BUNDLE_CONSUMERS = {
    "peft": ("peft", "vllm"),
    "compact": ("peft", "axolotl", "vllm-0.31", "vllm"),
    "padded": ("peft", "axolotl", "vllm-0.31", "vllm", "sglang", "lorax", "tgi"),
    "gguf": ("llama.cpp",),
    "merged": ("transformers",),
}
# The largest difference that is rounding, as a part of the change that an adapter makes.
_FLOAT = 0.01  # far above rounding in float32, far below any wrong scale
_ROUNDED = 0.1  # where it is merged into weights of half precision
_LEAST_EFFECT = 1e-4  # of the output; below it, a wrong scale can't be told from rounding


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


def refer(base: LoadedBase, adapter: Path) -> Reference:
    """The measure of a bundle: the base model's outputs on the fixed inputs, without and with the trained adapter.

    Raises:
        RankSearchError: the adapter changes so little that no error could be told from rounding.
    """
    ids, mask = tokens(base.tokenizer)
    trained = Adapter.load(adapter)
    # Of a classifier the head is not what a scale could spoil, and its change would hide what is.
    head = trained.head if trained.factors else {}
    before = run_with(base, Reading({}, head), ids, mask)
    with loaded(base.model, adapter):
        reference = Reference(ids, mask, before, outputs(base.model, ids, mask))
    if not reference.effect >= _LEAST_EFFECT:
        raise RankSearchError(
            f"the adapter changes outputs by {reference.effect:.1e} of the largest, too little to tell a wrong scale "
            "from rounding; nothing can be certified"
        )
    return reference


def verify(folder: Path, names: Sequence[str] | None, *, trust_remote_code: bool = False) -> tuple[Finding, ...]:
    """Computes a bundle's certificate anew.

    Args:
        folder: the bundle.
        names: labels of the consumers to try; None for those that its format is for; empty for all.
        trust_remote_code: run Python code that the base model ships.

    Raises:
        InputError: the folder is no bundle, is damaged, its base model has changed, or there is no such consumer.
    """
    manifest, reference = Manifest.read(folder), Reference.load(folder)
    if manifest.format not in BUNDLE_CONSUMERS:
        raise InputError(
            f"{manifest.format!r} is no format of bundles; export anew", file=str(folder / FILE), field="format"
        )
    manifest.check_weights(folder)
    known = [consumer.label for consumer in CONSUMERS if manifest.format in consumer.formats]
    if names is None:
        names = BUNDLE_CONSUMERS[manifest.format]
    for name in names:
        if name not in known:
            raise InputError(f"{name!r} reads no {manifest.format}; {did_you_mean(name, known)}", field="--consumer")
    if manifest.format in {"peft", "compact", "padded"}:
        AdapterSettings.read(folder)  # so that a damaged one is told of, whoever reads it
    source = manifest.base.located(trust_remote_code=trust_remote_code)
    base = load_base(source, manifest.base.auto_class, manifest.base.classes)
    check_unchanged(manifest.base, base)
    return certify(folder, manifest, base, reference, names or known)


def certify(
    folder: Path, manifest: Manifest, base: LoadedBase, reference: Reference, names: Sequence[str]
) -> tuple[Finding, ...]:
    """What consumers compute with a bundle.

    Args:
        folder: the bundle.
        manifest: what it says of itself.
        base: the base model.
        reference: the measure.
        names: of the consumers to try.
    """
    return tuple(
        _finding(consumer, folder, manifest, base, reference) for consumer in CONSUMERS if consumer.label in names
    )


def _finding(consumer: Consumer, folder: Path, manifest: Manifest, base: LoadedBase, reference: Reference) -> Finding:
    here = consumer.installed if consumer.runs(base) else None
    common: dict[str, Any] = {"label": consumer.label, "consumer": consumer.name}
    common |= {"version": here or consumer.read_in, "real": here is not None}
    architecture = type(base.model).__name__
    if manifest.base.auto_class not in consumer.serves or architecture in consumer.without:
        return Finding(**common, passed=None, note=f"takes no adapters for {architecture}")
    try:
        found = _outputs(consumer, here, folder, base, reference)
    except NotServed as unserved:
        return Finding(**common, passed=None, note=str(unserved))
    except Refused as refusal:
        return Finding(**common, passed=False, note=f"refuses it: {refusal}")
    except RankSearchError:
        raise
    except Exception as error:  # whatever a consumer raises is its way to refuse
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return Finding(**common, passed=False, note=f"refuses it: {reason}")
    if found.shape != reference.adapted.shape:
        note = f"outputs {tuple(found.shape)}, not {tuple(reference.adapted.shape)}"
        return Finding(**common, passed=False, note=note)
    difference, of_output = reference.difference(found), reference.of_output(found)
    halved = manifest.format == "merged" and manifest.base.dtype != "float32"
    tolerance = _ROUNDED if halved else _FLOAT
    return Finding(**common, passed=difference <= tolerance, difference=difference, of_output=of_output)


def _outputs(consumer: Consumer, installed: str | None, folder: Path, base: LoadedBase, reference: Reference) -> Tensor:
    """By the consumer's own code where it is installed, else by the model of its rules.

    Raises:
        RankSearchError: it is installed, but can't be imported here.
    """
    run = consumer.own if installed else consumer.modelled
    if run is None:
        raise RankSearchError(f"{consumer.name} is not installed")
    try:
        return run(folder, base, reference)
    except ImportError as error:
        raise RankSearchError(
            f"{consumer.package} {installed} is installed, but can't be imported here ({error}); mend it, or "
            "verify where it is not installed, by a model of its rules"
        ) from error
