"""What ``export --to`` can write: bundles of trained weights, trainers' configurations, and the map itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rank_search.core.errors import InputError, RankSearchError, did_you_mean
from rank_search.core.files import atomic_folder, write_text
from rank_search.core.rank_curve import RankCurve
from rank_search.export.consumers import refusals, trainers
from rank_search.export.origin import header
from rank_search.export.protocol import BUNDLE_FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rank_search.export.exported_trial import ExportedTrial
    from rank_search.export.protocol import Trainer


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        write: fills an empty folder, and returns lines to print; its last argument is ``force``.
        needs_adapter: whether the map must adapt a module.
        needs_weights: whether it holds trained weights.
    """

    write: Callable[[ExportedTrial, Path, bool], list[str]]
    needs_adapter: bool = True
    needs_weights: bool = False


def write_export(
    exported: ExportedTrial, form: str, out: Path, *, force: bool = False, retrain: Callable[[], None] | None = None
) -> list[str]:
    """Writes a trial in a format into ``out``, which must be empty or not exist.

    Trained weights are certified first: if a consumer that the format is written for computes other outputs than the
    trained adapter, nothing is written.

    Args:
        exported: the trial.
        form: the format.
        out: the folder.
        force: write trained weights that fail, marked as failed.
        retrain: trains the trial again, where trained weights are needed and were not kept; None to refuse that.

    Returns:
        Lines to print: which consumers compute the right outputs, and how to use what was written.

    Raises:
        InputError: the format is unknown, or ``out`` holds something already.
        RankSearchError: the trial lacks what the format needs, the format can't express it, or a consumer fails.
    """
    chosen = _known_format(form)
    out = _empty_folder(out)
    if chosen.needs_adapter and not exported.parts:
        raise RankSearchError(
            f"trial {exported.trial.number} leaves every module alone: use the base model as it is, or export another "
            "trial (--trial N, or a --rule such as best)"
        )
    if retrain is not None and chosen.needs_weights and not exported.has_adapter:
        retrain()
    try:
        with atomic_folder(out) as partial:
            lines = chosen.write(exported, partial, force)
            if exported.metadata.classes:
                labels = {"id2label": dict(enumerate(exported.metadata.classes))}
                write_text(partial / "labels.json", json.dumps(labels, indent=2) + "\n")
    except OSError as error:
        if not _below(error.filename, out.parent):
            raise
        reason = error.strerror or str(error)
        raise InputError(f"{str(out)!r} can't be written ({reason}); name another", field="--out") from None
    return lines


def _known_format(form: str) -> Format:
    """The format of this name.

    Raises:
        InputError: nothing is exported for it, or there is none.
    """
    known, refused = formats(), refusals()
    if form in refused:
        raise InputError(f"{form!r} {refused[form].reason}", field="--to")
    if form not in known:
        raise InputError(f"{form!r} is no format; {did_you_mean(form, [*known, *refused])}", field="--to")
    return known[form]


def _empty_folder(out: Path) -> Path:
    """The folder by its absolute path.

    Raises:
        InputError: it is a link, the current folder, a file, or not empty.
    """
    if out.is_symlink():
        raise InputError(f"{str(out)!r} is a link to {str(out.resolve())!r}; name that", field="--out")
    out = out.resolve()  # "new/.." is the folder it leads to, even if "new" does not exist
    if out == Path.cwd():  # it would be replaced while the user's shell is in it
        raise InputError(f"{str(out)!r} is the current folder; name a new one", field="--out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{str(out)!r} exists and is not an empty folder; name a new one", field="--out")
    return out


def _below(file: object, folder: Path) -> bool:
    """Whether an error names a file in a folder, or no file, as that of a full disk."""
    return file is None or (isinstance(file, str) and Path(file).is_relative_to(folder))


def _bundle(form: str) -> Format:
    """Trained weights, with their certificate; torch is imported only when they are written."""

    def write(exported: ExportedTrial, out: Path, force: bool) -> list[str]:
        from rank_search.export.bundles import write_bundles

        return write_bundles(exported, form, out, force=force)

    return Format(write, needs_weights=True)


def _training(trainer: Trainer) -> Format:
    """A configuration or script for a fresh training."""

    def write(exported: ExportedTrial, out: Path, _force: bool) -> list[str]:
        from rank_search.export.training_files import write_training

        return write_training(exported, trainer, out)

    return Format(write)


def _rank_map(exported: ExportedTrial, out: Path, _force: bool) -> list[str]:
    """The map itself, and its score."""
    content = {
        "study": exported.study,
        "trial": exported.trial.number,
        "model": exported.metadata.config["model"]["source"],
        "score": exported.trial.score,
        "trainable_parameters": exported.trial.trainable_parameters,
        "settings": dict(exported.trial.settings),
        "ranks": dict(exported.rank_map.ranks),
    }
    write_text(out / "rank_map.json", json.dumps(content, indent=2) + "\n")
    return []


def _rank_curve(exported: ExportedTrial, out: Path, _force: bool) -> list[str]:
    """Ranks by depth, for a study on another model; a file for each base model."""
    for part in exported.parts:
        name = part.prefix.removesuffix(".")
        write_text(out / name / "rank_curve.json", RankCurve.from_rank_map(part.rank_map).to_json(header(part)))
    return ["space.prior: rank_curve.json in the study file of another model tries the map nearest to it"]


def formats() -> dict[str, Format]:
    """All formats by name: bundles of trained weights, one for each trainer, and the map itself."""
    return {
        **{form: _bundle(form) for form in BUNDLE_FORMATS},
        **{label: _training(trainer) for label, trainer in trainers().items()},
        "rank-curve": Format(_rank_curve),
        "rank-map": Format(_rank_map, needs_adapter=False),
    }
