"""What comes after the search: fresh trainings of the chosen map and its baselines, and scores on the test split."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from rank_search.analysis.comparison import Comparison
from rank_search.analysis.maps import study_maps
from rank_search.core.errors import RankSearchError, SearchStopped
from rank_search.search.fresh_trainings import FreshTrainings

if TYPE_CHECKING:
    from rank_search.analysis.trials import ScoredTrial
    from rank_search.app.display import Display
    from rank_search.config import StudyConfig
    from rank_search.core.evaluation import Evaluation
    from rank_search.executors.local import LocalExecutor
    from rank_search.executors.ray_cluster import RayExecutor
    from rank_search.study.handle import Study
    from rank_search.study.record import TrialRecord
    from rank_search.tasks.base import Task


def comparison_of(study: Study) -> Comparison:
    """The chosen map and its baselines.

    Raises:
        RankSearchError: no map has a score yet.
    """
    return Comparison.from_tables(study_maps(study), study.table())


def check_trained(study: Study) -> None:
    """Checks that at least one training of an adapter has a score: without one a verdict would compare nothing.

    Raises:
        SearchStopped: all failed; the message has the reason that most of them share.
    """
    ended = [trial for trial in study.trials() if trial.state.is_finished() and _trains_adapter(trial)]
    if not ended or any(trial.is_complete for trial in ended):
        return
    reasons = Counter(trial.attributes.reason or "no reason is on record" for trial in ended)
    (reason, count), *_ = reasons.most_common(1)
    raise SearchStopped(
        f"all {len(ended)} trainings failed, {count} of them because: {reason}; fix that and run the same command to "
        "go on; if it takes another setting, such as a lower training.learning_rate, name another study"
    )


def _trains_adapter(trial: TrialRecord) -> bool:
    return trial.candidate is not None and any(trial.candidate.rank_map.ranks.values())


def is_measured(study: Study, config: StudyConfig) -> bool:
    """Whether all that the verdict rests on is on record."""
    comparison = comparison_of(study)
    candidates = [trial.fresh for trial in comparison.trials.values()]
    return bool(study.folder.read_test(comparison.numbers)) and _fresh_trainings(study, config).is_done(candidates)


def train_afresh(study: Study, config: StudyConfig, executor: LocalExecutor | RayExecutor, display: Display) -> None:
    """Trains the chosen map and its baselines on fresh seeds."""
    candidates = [trial.fresh for trial in comparison_of(study).trials.values()]
    _fresh_trainings(study, config).run(candidates, executor, display.verdict)


def measure_on_test(study: Study, executor: LocalExecutor | RayExecutor, task: Task) -> None:
    """Scores the untrained model and the saved adapters of the chosen map and its baselines on the test split.

    Raises:
        RankSearchError: an adapter is gone.
    """
    comparison = comparison_of(study)
    if study.folder.read_test(comparison.numbers):
        return
    untrained = executor.evaluate(None, "test")

    def measured(trial: ScoredTrial) -> Evaluation:
        adapter = study.folder.adapter(trial.number)
        if adapter.is_dir():
            return executor.evaluate(adapter, "test")
        if trial.trainable_parameters == 0 and not study.metadata.head:
            return untrained
        raise RankSearchError(
            f"{adapter}: the adapter of trial {trial.number} is gone; restore it, or train it again by export "
            f"--trial {trial.number} --to peft --retrain"
        )

    by_number = {trial.number: trial for trial in comparison.trials.values()}
    scores = {number: measured(trial) for number, trial in by_number.items()}
    evaluations = {"untrained": untrained, **{role: scores[number] for role, number in comparison.numbers.items()}}
    study.folder.write_test(
        comparison.numbers,
        {
            "values": {name: evaluation.values[evaluation.metric] for name, evaluation in evaluations.items()},
            "metrics": {name: evaluation.means for name, evaluation in evaluations.items()},
            "examples": [asdict(example) for example in task.examples("test", untrained, evaluations["chosen"])],
        },
    )


def _fresh_trainings(study: Study, config: StudyConfig) -> FreshTrainings:
    return FreshTrainings(study.folder, config.seed, config.search.verdict_seeds)
