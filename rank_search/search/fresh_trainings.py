"""Trainings that are no trials: for the verdict, on seeds that nothing was chosen by; for learning rates, before it.

Their results are files beside the database, one a training, so that a run may end between any two of them. They are
no trials: a score that came after the choice must not change the choice, nor one at another learning rate the search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rank_search.core.job import FineTuned, Job
from rank_search.core.seeds import verdict_seeds
from rank_search.executors.protocol import Pack, train_packs
from rank_search.study.folder import CONFIRMATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rank_search.core.candidate import Candidate
    from rank_search.core.evaluation import Split
    from rank_search.core.job import Outcome
    from rank_search.executors.protocol import Executor
    from rank_search.study.handle import Study


@dataclass(frozen=True)
class FreshTrainings:
    """The trainings of one study for one purpose.

    Attributes:
        study_seed: from which their seeds are derived.
        place: folder of their results, in that of the study.
        seeds: study's seed and repeat → seeds of the adapter and of the batches.
        split: what they are scored on.
    """

    study: Study
    study_seed: int
    place: str = CONFIRMATIONS
    seeds: Callable[[int, int], tuple[int, int]] = verdict_seeds
    split: Split = "test"

    def run(
        self,
        candidates: Sequence[Candidate],
        seeds: int,
        executor: Executor,
        on_progress: Callable[[int, int], None],
        pack: int | None = None,
    ) -> None:
        """Trains what is not on record yet; candidates of one seed side by side, on the same batches.

        Args:
            candidates: what to train; one that is given twice is trained once.
            seeds: trainings of each candidate.
            executor: trains them.
            on_progress: called with the trainings that are done, and with all.
            pack: how many to train at once, at most; all of a seed by default.
        """
        distinct = list(dict.fromkeys(candidates))
        missing = {
            repeat: [candidate for candidate in distinct if not self._is_on_record(candidate, repeat)]
            for repeat in range(seeds)
        }
        packs = {
            Pack([self._job(candidate, repeat) for candidate in together]): repeat
            for repeat, left in missing.items()
            for together in _batched(left, pack or max(1, len(left)))
        }
        total = seeds * len(distinct)
        done = total - sum(len(left) for left in missing.values())
        on_progress(done, total)
        for done_pack, outcomes in train_packs(executor, packs):
            for job, outcome in zip(done_pack.jobs, outcomes, strict=True):
                self.study.folder.write_training(self.place, job.candidate.key, packs[done_pack], _result(job, outcome))
            done += len(outcomes)
            on_progress(done, total)

    def is_done(self, candidates: Sequence[Candidate], seeds: int) -> bool:
        """Whether so many trainings of each candidate are on record."""
        return all(self._is_on_record(candidate, repeat) for candidate in candidates for repeat in range(seeds))

    def _is_on_record(self, candidate: Candidate, repeat: int) -> bool:
        return bool(self.study.folder.read_training(self.place, candidate.key, repeat))

    def _job(self, candidate: Candidate, repeat: int) -> Job:
        seed, data_seed = self.seeds(self.study_seed, repeat)
        large = None if candidate.source is None else self.study.trial(candidate.source).candidate
        return Job(candidate, seed=seed, data_seed=data_seed, large=large, split=self.split)


def _batched(candidates: Sequence[Candidate], size: int) -> Iterator[Sequence[Candidate]]:
    """The candidates in groups of so many."""
    for start in range(0, len(candidates), size):
        yield candidates[start : start + size]


def _result(job: Job, outcome: Outcome) -> dict[str, Any]:
    seeds = {"seed": job.seed, "data_seed": job.data_seed}
    if isinstance(outcome, FineTuned):
        return {**seeds, "values": outcome.evaluation.searched, "seconds": outcome.seconds}
    return {**seeds, "reason": str(outcome)}
