"""Trained weights in the formats that servers read; none is written before its consumers are tried on it."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING

import torch

from rank_search.adapters import Adapter, adapter_folder, compact, in_all_layers, padded
from rank_search.core.errors import InputError, RankSearchError
from rank_search.data.splits import fingerprint as joint_fingerprint
from rank_search.export.certificate import certified_labels, certify, measure_reference, prevents_export
from rank_search.export.gguf_file import FILE, check_architecture, write_gguf
from rank_search.export.manifest import Base, Manifest, weight_digests
from rank_search.export.origin import finding_line, write_card
from rank_search.export.probe import load_base, merged
from rank_search.export.protocol import EMBEDDERS
from rank_search.export.serving import serving_notes
from rank_search.models.modules import linear_modules
from rank_search.models.retriever import save_retriever
from rank_search.models.source import fingerprint, locate
from rank_search.study.metadata import environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rank_search.export.exported_trial import ExportedTrial, ModelPart
    from rank_search.export.probe import LoadedBase


def write_peft(part: ModelPart, _base: LoadedBase, out: Path) -> None:
    """The adapter as it was trained."""
    shutil.copytree(part.adapter, out, dirs_exist_ok=True)


def write_compact(part: ModelPart, base: LoadedBase, out: Path) -> None:
    """The adapter at scale 1, by whichever α and rank a consumer computes it; each module keeps its rank."""
    compact(_adapting(part), linear_modules(base.model)).save(out)


def write_padded(part: ModelPart, base: LoadedBase, out: Path) -> None:
    """The adapter at scale 1 and one rank, filled up with zeros, in modules of the same kinds in all layers."""
    shapes = linear_modules(base.model)
    names = in_all_layers(part.rank_map.ranks, shapes)
    padded(_adapting(part), {name: shapes[name] for name in names}, shapes).save(out)


def write_gguf_adapter(part: ModelPart, base: LoadedBase, out: Path) -> None:
    """The adapter as llama.cpp reads it, at scale 1."""
    if part.exported.metadata.head:
        raise RankSearchError("gguf holds no classification head; use --to merged")
    settings = base.model.config
    check_architecture(settings.model_type)
    write_gguf(out / FILE, compact(_adapting(part)).factors, settings.model_type, settings.to_dict())


def write_merged(part: ModelPart, base: LoadedBase, out: Path) -> None:
    """The base model with the adapter merged into its weights, in the type that they were trained on.

    An embedder keeps its pooling, normalisation and prompts.
    """
    model = merged(base, part.adapter)
    if part.exported.metadata.classes:
        model.config.id2label = dict(enumerate(part.exported.metadata.classes))
        model.config.label2id = {name: i for i, name in enumerate(part.exported.metadata.classes)}
    model.to(getattr(torch, part.model.dtype))
    if part.auto_class in EMBEDDERS:
        save_retriever(part.model, model, out)
    else:
        model.save_pretrained(out)
        base.tokenizer.save_pretrained(out)


def _adapting(part: ModelPart) -> Adapter:
    """The trained adapter, if it adapts anything."""
    adapter = Adapter.load(part.adapter)
    if not adapter.factors:
        raise RankSearchError(
            f"trial {part.exported.trial.number} trains only its head, which servers of adapters don't take; use "
            "--to peft or merged"
        )
    return adapter


_WRITERS: dict[str, Callable[[ModelPart, LoadedBase, Path], None]] = {
    "peft": write_peft,
    "compact": write_compact,
    "padded": write_padded,
    "gguf": write_gguf_adapter,
    "merged": write_merged,
}


def write_bundles(exported: ExportedTrial, form: str, out: Path, *, force: bool) -> list[str]:
    """Writes a bundle for each base model, with its certificate, its reference outputs and a model card.

    Args:
        exported: the trial.
        form: the format.
        out: an empty folder; of several base models each gets a folder in it.
        force: write a bundle that fails, too.

    Returns:
        Lines to print: the certificate and the serving notes of each.

    Raises:
        InputError: an adapter is damaged, a base model has changed, or runs code that the user does not trust.
        RankSearchError: the format can't hold the trial, or a consumer that it is written for computes other outputs.
    """
    exported.refuse_untrusted_code()
    _check_unchanged(exported)
    lines = []
    for part in exported.parts:
        folder = adapter_folder(out, part.prefix)
        folder.mkdir(exist_ok=True)
        lines += _write(part, form, folder, force=force)
    return lines


def _check_unchanged(exported: ExportedTrial) -> None:
    """Checks that the base models have the weights that the study started with.

    Raises:
        InputError: one has changed.
    """
    # The retriever of a generation study is not adapted, but its answers depend on it.
    retriever = getattr(exported.config.task, "retriever", None)
    sources = [retriever, exported.config.model] if retriever else [exported.config.model]
    found = [fingerprint(locate(source), source) for source in sources]
    now = found[0] if len(found) == 1 else joint_fingerprint(found)
    if now != exported.metadata.model_fingerprint:
        raise InputError(
            f"{' or '.join(repr(source.source) for source in sources)} has changed since the study started; "
            "restore it, or name its revision",
            field="model.source",
        )


def _check_ranks(part: ModelPart) -> None:
    """Checks that the saved adapter has the ranks that its record, and so the model card, states.

    Raises:
        InputError: the adapter is damaged.
        RankSearchError: it has others.
    """
    ranks = {name: len(a) for name, (a, _) in Adapter.load(part.adapter).factors.items()}
    if ranks != part.rank_map.adapted:
        raise RankSearchError(
            f"trial {part.exported.trial.number}: its saved adapter has other ranks than its record; doctor --fix "
            "moves it away, then add --retrain to train it again"
        )


def _write(part: ModelPart, form: str, folder: Path, *, force: bool) -> list[str]:
    exported = part.exported
    _check_ranks(part)
    base = load_base(part.model, part.auto_class, len(exported.metadata.classes))
    reference = measure_reference(base, part.adapter, embedder=part.auto_class in EMBEDDERS)
    _WRITERS[form](part, base, folder)
    reference.save(folder)
    manifest = Manifest(
        format=form,
        study=exported.study,
        trial=exported.trial.number,
        metric=exported.config.task.metric,
        score=exported.trial.score,
        score_se=exported.trial.score_se if math.isfinite(exported.trial.score_se) else None,
        trainable_parameters=part.trainable_parameters,
        settings=dict(exported.trial.settings),
        ranks=dict(part.rank_map.ranks),
        base=Base(
            source=part.source,
            revision=part.model.revision,
            auto_class=part.auto_class,
            classes=len(exported.metadata.classes),
            dtype=part.model.dtype,
            fingerprint=base.fingerprint,
            query_prompt=part.model.query_prompt,
            document_prompt=part.model.document_prompt,
        ),
        versions=environment("cpu")["versions"],
        weights=weight_digests(folder),
    )
    findings = certify(folder, manifest, base, reference, certified_labels(form, part.auto_class))
    failed = [finding for finding in findings if prevents_export(finding, form)]
    if failed and not force:
        raise RankSearchError(
            f"{form}: {finding_line(failed[0])}; nothing was written (--force writes it all the same, marked as failed)"
        )
    manifest = manifest.model_copy(update={"certificate": findings})
    manifest.write(folder)
    serving = serving_notes(folder, findings, part.auto_class)
    write_card(folder, manifest, part, serving, failed=bool(failed))
    return [*map(finding_line, findings), *serving]
