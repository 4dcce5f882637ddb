"""The schedule of a study, with what it asks of the analysis and of the executor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.analysis.choice import DEFAULT_RULE, Rule, choose
from rank_search.analysis.maps import probabilities, study_maps
from rank_search.app.loading import read_prior
from rank_search.search.schedule import Schedule

if TYPE_CHECKING:
    from rank_search.config import StudyConfig
    from rank_search.executors.local import LocalExecutor
    from rank_search.executors.ray_cluster import RayExecutor
    from rank_search.search.nested import NestedSearch
    from rank_search.search.rivals.requests import Spectrum
    from rank_search.study.handle import Study


def make_schedule(
    study: Study,
    config: StudyConfig,
    executor: LocalExecutor | RayExecutor | None = None,
    nested: NestedSearch | None = None,
) -> Schedule:
    """The schedule of a study; without an executor it can say what is missing, and not make it."""

    def spectrum(trial: int) -> Spectrum:
        if executor is None:
            return {}
        study.folder.check_adapter(trial)
        return executor.spectrum(study.folder.adapter(trial))

    def front_probability() -> dict[int, float]:
        return probabilities(study_maps(study))

    def chosen_parameters() -> int | None:
        maps = study_maps(study)
        return None if maps.empty else choose(maps, Rule.parse(DEFAULT_RULE)).trainable_parameters

    prior = read_prior(config, study.space)
    return Schedule(config, study.space, spectrum, front_probability, chosen_parameters, nested, prior)
