"""The recorder: it writes down what became of a trial, first on disk, then in the study."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from rank_search.core.candidate import SETS_RANKS
from rank_search.core.errors import TrainingFailed
from rank_search.study.faults import failure, is_unreachable
from rank_search.study.optuna_compat import stored
from rank_search.study.record import TrialAttributes, keep

if TYPE_CHECKING:
    from optuna.trial import Trial

    from rank_search.core.job import FineTuned, Job
    from rank_search.study.handle import Study


@dataclass
class TrialRecorder:
    """Records the outcomes of one study's trials.

    Attributes:
        failures: number and reason of the trials that failed one after another, since the last one that succeeded.
    """

    study: Study
    failures: list[tuple[int, str]] = field(default_factory=list)

    def record(self, trial: Trial, job: Job, outcome: FineTuned | TrainingFailed) -> bool:
        """Records a trial's end, once all that belongs to it is on disk; False where it was recorded before.

        Raises:
            OutOfService: nothing can be written.
        """
        if _is_recorded(trial):  # and this driver did not hear of it
            return False
        optuna_study = self.study.optuna_study
        try:
            values = self._keep(trial, job, outcome)
        except Exception as error:
            if is_unreachable(error):
                raise
            failed = failure(error)
            if _is_recorded(trial):  # by another driver, while this one was away
                return False
            self._record_failure(trial, failed)
        else:
            if _is_recorded(trial):
                return False
            optuna_study.tell(trial, values, state=TrialState.COMPLETE)
            self.failures.clear()
        return True

    def _record_failure(self, trial: Trial, failed: TrainingFailed) -> None:
        keep(trial, failure=failed.kind, reason=str(failed))
        self.study.optuna_study.tell(trial, state=TrialState.FAIL)
        is_rival = TrialAttributes.read(trial).requested_ranks is not None
        if not is_rival:  # a model that EVA can't adapt may be searched all the same
            self.failures.append((trial.number, str(failed)))

    def _keep(self, trial: Trial, job: Job, outcome: FineTuned | TrainingFailed) -> tuple[float, int]:
        """Keeps what is known of a trial; returns its two objectives.

        Raises:
            TrainingFailed: it has no finite score.
        """
        if isinstance(outcome, TrainingFailed):
            raise outcome
        folder, space = self.study.folder, self.study.space
        keep(trial, seed=job.seed, seconds=outcome.seconds)
        evaluation = outcome.evaluation
        if not math.isfinite(evaluation.score):  # Optuna would fail a NaN, but take an infinity
            raise TrainingFailed(
                f"the score is {evaluation.score} after training; lower the learning rate", "not finite"
            )
        if outcome.save_adapter is not None:
            outcome.save_adapter(folder.adapter(trial.number))
        digests = folder.adapter_digests(trial.number)
        folder.write_result(
            trial.number,
            {
                "values": evaluation.searched,
                "selection": evaluation.selected,
                "losses": outcome.losses,
                "adapter": digests,
            },
        )
        keep(trial, score_se=evaluation.standard_error, metrics=evaluation.means)
        rank_map = outcome.rank_map or job.rank_map
        if job.recipe in SETS_RANKS:
            keep(trial, ranks=dict(rank_map.ranks))
        return evaluation.score, space.parameters(rank_map)


def _is_recorded(trial: Trial) -> bool:
    return stored(trial).state.is_finished()
