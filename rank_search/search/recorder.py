"""What the study is told of a trial, and what is kept of it on disk before that."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from rank_search.core.errors import TrainingFailed
from rank_search.core.job import Stopped
from rank_search.search import early_stopping as rungs
from rank_search.search.rivals.rivals import NAME, RANKS
from rank_search.study.faults import failure, is_unreachable

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

    from rank_search.core.job import FineTuned, Job
    from rank_search.core.space import Space
    from rank_search.study.storage import StudyFolder


@dataclass
class Teller:
    """Tells one study what became of its trials.

    Attributes:
        failures: number and reason of the trials that failed one after another, of which none came through since.
    """

    study: Study
    folder: StudyFolder
    space: Space
    failures: list[tuple[int, str]] = field(default_factory=list)

    def tell(self, trial: Trial, job: Job, outcome: FineTuned | Stopped | TrainingFailed) -> bool:
        """Tells the study of a trial, once all that belongs to it is written down; False where it was told already.

        Raises:
            OutOfService: nothing can be written.
        """
        if self._is_told(trial):  # and this driver did not hear of it
            return False
        try:
            values = self._write_down(trial, job, outcome)
        except Exception as error:
            if is_unreachable(error):
                raise
            failed = failure(error)
            if self._is_told(trial):  # by another driver, while this one was away
                return False
            self._tell_failure(trial, failed)
        else:
            if self._is_told(trial):
                return False
            self.study.tell(trial, values, state=TrialState.PRUNED if values is None else TrialState.COMPLETE)
            self.failures.clear()
        return True

    def _is_told(self, trial: Trial) -> bool:
        return trial.storage.get_trial(trial._trial_id).state.is_finished()

    def _tell_failure(self, trial: Trial, failed: TrainingFailed) -> None:
        trial.set_user_attr("failure", failed.kind)
        trial.set_user_attr("reason", str(failed))
        self.study.tell(trial, state=TrialState.FAIL)
        if NAME not in trial.user_attrs:  # a model that EVA can't adapt may be searched all the same
            self.failures.append((trial.number, str(failed)))

    def _write_down(
        self, trial: Trial, job: Job, outcome: FineTuned | Stopped | TrainingFailed
    ) -> tuple[float, int] | None:
        """Keeps what is known of a trial; returns its two objectives, or None where it was stopped.

        Raises:
            TrainingFailed: it has no finite score.
        """
        if isinstance(outcome, TrainingFailed):
            raise outcome
        trial.set_user_attr("seed", job.seed)
        trial.set_user_attr("seconds", outcome.seconds)
        if outcome.rungs:
            trial.set_user_attr(rungs.ATTRIBUTE, outcome.rungs)
        if isinstance(outcome, Stopped):
            self.folder.write_result(trial.number, {"losses": outcome.losses})
            return None
        evaluation = outcome.evaluation
        if not math.isfinite(evaluation.score):  # Optuna would fail a NaN, but take an infinity
            raise TrainingFailed(
                f"the score is {evaluation.score} after training; lower the learning rate", "not finite"
            )
        if outcome.save_adapter is not None:
            outcome.save_adapter(self.folder.adapter(trial.number))
        result = {
            "values": evaluation.values,
            "losses": outcome.losses,
            "adapter": self.folder.adapter_digests(trial.number),
        }
        self.folder.write_result(trial.number, result)
        trial.set_user_attr("score_se", evaluation.standard_error)
        trial.set_user_attr("metrics", evaluation.means)
        rank_map = outcome.rank_map or job.rank_map
        if NAME in trial.user_attrs:
            trial.set_user_attr(RANKS, dict(rank_map.ranks))
        return evaluation.score, self.space.parameters(rank_map)
