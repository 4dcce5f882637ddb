"""Picks one trial of a study: by a rule, or by its number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.analysis.choice import choose
from rank_search.analysis.evidence import study_evidence
from rank_search.analysis.explain import explain
from rank_search.analysis.remarks import remarks
from rank_search.analysis.search_gain import search_gain
from rank_search.analysis.trials import ScoredTrial, scored
from rank_search.core.errors import InputError

if TYPE_CHECKING:
    from rank_search.core.choice import Rule
    from rank_search.study.handle import Study


def choose_map(study: Study, rule: Rule | None = None, *, explained: bool = False) -> tuple[ScoredTrial, list[str]]:
    """The map that a rule chooses, and sentences that explain the choice.

    Args:
        study: the study.
        rule: the rule; by default that of the study file.
        explained: whether sentences are wanted; without them the list is empty.

    Raises:
        RankSearchError: the study has no scored trial yet, or no map meets the rule.
    """
    evidence, rule = study_evidence(study), rule or study.rule
    trial = choose(evidence, rule)
    if not explained:
        return trial, []
    gain = search_gain(evidence, rule, study.space.reference_parameters)
    return trial, [*explain(evidence, rule, trial), *remarks(evidence, study.rates, gain)]


def find_trial(study: Study, number: int) -> ScoredTrial:
    """The complete trial of a number.

    Raises:
        InputError: there is none.
    """
    trials = scored(study.table())
    if number not in trials:
        raise InputError(f"{number} is not a complete trial of {study.name!r}; see status", field="--trial")
    return trials[number]


def export_command(study: Study, trial: ScoredTrial, rule: str) -> str | None:
    """The command that exports a chosen trial for PEFT; None if it has nothing to export.

    Args:
        study: the study.
        trial: the trial.
        rule: the rule that chose the trial.
    """
    kept = study.folder.adapter(trial.number).is_dir()
    if not kept and not trial.trainable_parameters:
        return None
    retrain = "" if kept else " --retrain"
    return f"python -m rank_search export {study.name_in_commands} --rule {rule} --to peft --out adapter{retrain}"
