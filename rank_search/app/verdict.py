"""What comes after the search: fresh trainings of the chosen map and its baselines, and scores on the test split."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rank_search.analysis.comparison import Comparison
from rank_search.analysis.evidence import study_evidence
from rank_search.analysis.looks import looks
from rank_search.analysis.verdict import compare, wants_seeds
from rank_search.core.choice import Rule
from rank_search.core.errors import RankSearchError, SearchStopped
from rank_search.search.fresh_trainings import FreshTrainings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from rank_search.analysis.evidence import Evidence
    from rank_search.analysis.trials import ScoredTrial
    from rank_search.config import StudyConfig
    from rank_search.core.candidate import Candidate
    from rank_search.core.evaluation import Evaluation
    from rank_search.executors.local import LocalExecutor
    from rank_search.executors.protocol import Executor
    from rank_search.executors.ray_cluster import RayExecutor
    from rank_search.study.handle import Study
    from rank_search.study.record import TrialRecord
    from rank_search.tasks.base import Task


@dataclass(frozen=True)
class FreshVerdict:
    """The verdict of one choice, while its fresh trainings are made.

    Attributes:
        study: the study.
        evidence: what the choice rests on.
        comparison: the chosen map and its baselines.
        trainings: the fresh trainings of the study.
    """

    study: Study
    evidence: Evidence
    comparison: Comparison
    trainings: FreshTrainings

    @classmethod
    def of_choice(cls, study: Study, config: StudyConfig, rule: Rule | None = None) -> FreshVerdict:
        """The verdict of the map that a rule chooses, by default the study's own.

        Raises:
            RankSearchError: no map has a score yet, or none meets the rule.
        """
        evidence = study_evidence(study)
        comparison = Comparison.from_evidence(evidence, rule or Rule.parse(config.choice.rule))
        return cls(study, evidence, comparison, FreshTrainings(study, config.seed))

    def missing(self, most: int) -> tuple[int, list[Candidate]]:
        """What is to be trained next: on how many seeds, and the candidates; none where nothing is left to show.

        At each look, only the rivals go on of which nothing is shown yet but may be, with the chosen map.

        Args:
            most: fresh seeds that may be trained.
        """
        roles = self.comparison.trials
        open_roles = set(roles)
        for seeds in looks(most):
            candidates = [trial.fresh for role, trial in roles.items() if role in open_roles]
            if not self.trainings.is_done(candidates, seeds):
                return seeds, candidates
            open_roles = {"chosen", *self._open(open_roles, seeds, most)}
            if open_roles == {"chosen"}:
                break
        return 0, []

    def _open(self, roles: Collection[str], seeds: int, most: int) -> list[str]:
        """Those of some roles of which nothing is shown on so many seeds, and may be with the most that may be trained.

        All roles are compared, as in the report: what is known of the noise of seeds comes from all of them.
        """
        metric = self.study.metric
        values = {}
        for role, trial in self.comparison.trials.items():
            results = self.study.folder.read_confirmations(trial.fresh.key)[:seeds]
            if all("values" in result for result in results):
                values[role] = [result["values"][metric] for result in results]
        found = compare(self.comparison, values, self.evidence.margin, self.evidence.searched.noise)
        return [difference.role for difference in found if difference.role in roles and wants_seeds(difference, most)]


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
    verdict = FreshVerdict.of_choice(study, config)
    _, missing = verdict.missing(config.search.verdict_seeds)
    return bool(study.folder.read_test(verdict.comparison.numbers)) and not missing


def train_afresh(verdict: FreshVerdict, most: int, executor: Executor, on_progress: Callable[[int, int], None]) -> None:
    """Trains the chosen map and its baselines on fresh seeds, until all is shown or the seeds are spent.

    Args:
        verdict: of a choice.
        most: fresh seeds that may be trained.
        executor: trains them.
        on_progress: called with the trainings that are done, and with all until the next look.
    """
    while True:
        seeds, candidates = verdict.missing(most)
        if not candidates:
            return
        verdict.trainings.run(candidates, seeds, executor, on_progress)


def measure_on_test(study: Study, comparison: Comparison, executor: LocalExecutor | RayExecutor, task: Task) -> None:
    """Scores the untrained model and the saved adapters of the chosen map and its baselines on the test split.

    Raises:
        RankSearchError: an adapter is gone.
    """
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
