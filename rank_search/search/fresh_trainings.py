"""Maps trained afresh for the verdict, on seeds that nothing was chosen by, and scored on the test split.

Their results are files beside the database, one a training, so that a run may end between any two of them. They are
no trials: a score that came after the choice must not change it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rank_search.core.job import FineTuned, Job
from rank_search.executors.protocol import Pack, trained
from rank_search.search.proposals.samplers import derive_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rank_search.executors.protocol import Executor
    from rank_search.search.contender import Contender
    from rank_search.study.storage import StudyFolder

_STREAM = 4  # of seeds; others are in rank_search.search.loop


@dataclass(frozen=True)
class Confirmation:
    """The fresh trainings of one study.

    Attributes:
        seed: the study's.
        seeds: trainings of each map.
    """

    folder: StudyFolder
    seed: int
    seeds: int

    def run(self, contenders: Sequence[Contender], executor: Executor, told: Callable[[int, int], None]) -> None:
        """Trains what is not on record yet; contenders of one seed side by side, on the same batches.

        Args:
            contenders: the maps; one that is given twice is trained once.
            executor: trains them.
            told: called with the trainings done, and all.
        """
        distinct = {of.name: of for of in contenders}
        missing = {
            number: [of for of in distinct.values() if not self.folder.read_confirmation(of.name, number)]
            for number in range(self.seeds)
        }
        packs = {Pack([self._job(of, number) for of in left]): number for number, left in missing.items() if left}
        done, every = sum(len(distinct) - len(left) for left in missing.values()), self.seeds * len(distinct)
        told(done, every)
        for pack, outcomes in trained(executor, packs):
            number = packs[pack]
            for contender, job, outcome in zip(missing[number], pack.jobs, outcomes, strict=True):
                result: dict[str, Any] = {"seed": job.seed, "data_seed": job.data_seed}
                if isinstance(outcome, FineTuned):
                    result |= {"values": outcome.evaluation.values, "seconds": outcome.seconds}
                else:
                    result |= {"reason": str(outcome)}
                self.folder.write_confirmation(contender.name, number, result)
            done += len(outcomes)
            told(done, every)

    def is_done(self, contenders: Sequence[Contender]) -> bool:
        """Whether all trainings are on record."""
        return all(self.folder.read_confirmation(of.name, number) for of in contenders for number in range(self.seeds))

    def _job(self, contender: Contender, number: int) -> Job:
        return Job(
            contender.rank_map,
            seed=derive_seed(self.seed, _STREAM, number, 0),
            data_seed=derive_seed(self.seed, _STREAM, number, 1),
            settings=contender.settings,
            split="test",
        )
