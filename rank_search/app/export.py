"""Exports a trial of a study, and trains it again where its weights were not kept."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rank_search.export.exported_trial import ExportedTrial
from rank_search.export.formats import write_export

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from rank_search.analysis.trials import ScoredTrial
    from rank_search.study.handle import Study


def export_trial(
    study: Study,
    trial: ScoredTrial,
    form: str,
    out: Path,
    *,
    force: bool = False,
    retrain_on: Console | None = None,
    trust_code: bool = False,
) -> list[str]:
    """Writes a trial in a format; see `rank_search.export.formats.write_export`.

    Args:
        study: the study.
        trial: the trial.
        form: the format.
        out: the folder to write; new or empty.
        force: write trained weights that fail their certificate.
        retrain_on: the console that shows progress if the weights must be trained again; None to refuse that.
        trust_code: run Python code that the study's record names: the base model's, and ``training.augmentation``.

    Returns:
        Lines for the user: which consumers read the export, and how.

    Raises:
        InputError: the format is unknown, ``out`` holds something already, or the record names code that the user
            does not trust.
        RankSearchError: the trial lacks what the format needs, or a consumer fails.
    """
    exported = ExportedTrial(study.name, study.metadata, study.folder, trial, trust_code)
    retrain = partial(_retrain, study, trial.number, retrain_on, trust_code=trust_code) if retrain_on else None
    return write_export(exported, form, out, force=force, retrain=retrain)


def _retrain(study: Study, number: int, console: Console, *, trust_code: bool) -> None:
    from rank_search.app.retrain import retrain  # loads torch, which most formats do not need

    retrain(study, number, console, trust_code=trust_code)
