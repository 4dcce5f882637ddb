"""The schedule of a study, with what it asks of the analysis and of the executor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.analysis.choice import choose, contested
from rank_search.analysis.evidence import study_evidence
from rank_search.analysis.maps import probabilities, study_maps
from rank_search.analysis.slope import search_budget
from rank_search.app.loading import read_prior
from rank_search.core.choice import Rule
from rank_search.search.schedule import Findings, Schedule

if TYPE_CHECKING:
    from rank_search.config import StudyConfig
    from rank_search.executors.local import LocalExecutor
    from rank_search.executors.ray_cluster import RayExecutor
    from rank_search.search.rivals.requests import Spectrum
    from rank_search.study.handle import Study


def make_schedule(study: Study, config: StudyConfig, executor: LocalExecutor | RayExecutor | None = None) -> Schedule:
    """The schedule of a study; without an executor it can say what is missing, and not make it."""

    def spectrum(trial: int) -> Spectrum:
        if executor is None:
            return {}
        study.folder.check_adapter(trial)
        return executor.spectrum(study.folder.adapter(trial))

    def front_probability() -> dict[int, float]:
        return probabilities(study_maps(study))

    def pairs_in_doubt() -> list[tuple[int, int]]:
        return contested(study_evidence(study))

    def chosen_parameters() -> int | None:
        evidence = study_evidence(study)
        chosen = choose(evidence, Rule.parse(config.choice.rule)) if evidence.front else None
        return None if chosen is None or chosen.recipe == "truncate" else chosen.trainable_parameters

    def budget() -> int | None:
        return search_budget(study_evidence(study), study.space)

    prior = read_prior(config, study.space)
    findings = Findings(front_probability, pairs_in_doubt, chosen_parameters, budget)
    return Schedule(config, study.space, spectrum, findings, prior, bool(study.metadata.head))
