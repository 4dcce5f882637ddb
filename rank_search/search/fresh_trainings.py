"""Fresh trainings for the verdict: on seeds that nothing was chosen by, scored on the test split.

Their results are files beside the database, one a training, so that a run may end between any two of them. They are
no trials: a score that came after the choice must not change the choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rank_search.core.job import FineTuned, Job
from rank_search.core.seeds import verdict_seeds
from rank_search.executors.protocol import Pack, train_packs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rank_search.core.candidate import Candidate
    from rank_search.core.job import Outcome
    from rank_search.executors.protocol import Executor
    from rank_search.study.folder import StudyFolder


@dataclass(frozen=True)
class FreshTrainings:
    """The fresh trainings of one study.

    Attributes:
        study_seed: from which their seeds are derived.
    """

    folder: StudyFolder
    study_seed: int

    def run(
        self,
        candidates: Sequence[Candidate],
        seeds: int,
        executor: Executor,
        on_progress: Callable[[int, int], None],
    ) -> None:
        """Trains what is not on record yet; candidates of one seed side by side, on the same batches.

        Args:
            candidates: what to train; one that is given twice is trained once.
            seeds: trainings of each candidate.
            executor: trains them.
            on_progress: called with the trainings that are done, and with all.
        """
        distinct = list(dict.fromkeys(candidates))
        missing = {
            repeat: [candidate for candidate in distinct if not self._is_on_record(candidate, repeat)]
            for repeat in range(seeds)
        }
        packs = {
            Pack([self._job(candidate, repeat) for candidate in left]): repeat
            for repeat, left in missing.items()
            if left
        }
        total = seeds * len(distinct)
        done = total - sum(len(left) for left in missing.values())
        on_progress(done, total)
        for pack, outcomes in train_packs(executor, packs):
            for job, outcome in zip(pack.jobs, outcomes, strict=True):
                self.folder.write_confirmation(job.candidate.key, packs[pack], _result(job, outcome))
            done += len(outcomes)
            on_progress(done, total)

    def is_done(self, candidates: Sequence[Candidate], seeds: int) -> bool:
        """Whether so many trainings of each candidate are on record."""
        return all(self._is_on_record(candidate, repeat) for candidate in candidates for repeat in range(seeds))

    def _is_on_record(self, candidate: Candidate, repeat: int) -> bool:
        return bool(self.folder.read_confirmation(candidate.key, repeat))

    def _job(self, candidate: Candidate, repeat: int) -> Job:
        seed, data_seed = verdict_seeds(self.study_seed, repeat)
        return Job(candidate, seed=seed, data_seed=data_seed, split="test")


def _result(job: Job, outcome: Outcome) -> dict[str, Any]:
    seeds = {"seed": job.seed, "data_seed": job.data_seed}
    if isinstance(outcome, FineTuned):
        return {**seeds, "values": outcome.evaluation.values, "seconds": outcome.seconds}
    return {**seeds, "reason": str(outcome)}
