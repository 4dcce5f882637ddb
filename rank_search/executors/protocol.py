"""The interface between the search and an executor: the search submits packs, and waits for their outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rank_search.core.job import Died, no_callback
from rank_search.study.faults import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rank_search.core.job import Job, OnStep, Outcome


_MAX_ATTEMPTS = 3  # of a pack whose process dies


@dataclass(frozen=True, eq=False)
class Pack:
    """Rank maps that are trained together.

    Attributes:
        jobs: what to train.
        on_step: called with the steps done and the mean loss.
    """

    jobs: Sequence[Job]
    on_step: OnStep = no_callback


class Executor(Protocol):
    """Trains packs, one or several at once. It does not know the study.

    Thread safety: all calls come from the driver's thread. The executor calls a pack's functions in that thread only,
    while the driver waits in `wait`.
    """

    @property
    def in_process(self) -> bool:
        """Whether it trains in the driver's own process: a training that kills it then kills the driver too."""

    @property
    def free_slots(self) -> int:
        """How many more packs can be submitted now; it may change while packs are trained."""

    def submit(self, pack: Pack) -> None:
        """Starts a pack. Callers must check `free_slots` first."""

    def wait(self) -> Sequence[tuple[Pack, Sequence[Outcome]]]:
        """Waits until packs are done, and returns the outcomes of each, in the order of its jobs.

        It may return an empty sequence after some seconds. A job whose process died has the outcome `Died`; its pack
        may be submitted again.

        Raises:
            OutOfService: something that every trial needs is gone.
        """


@dataclass
class Serial:
    """An executor that trains in this process, one pack after another, inside `wait`.

    Args:
        train: trains jobs. If it raises an exception that a trial can cause, all jobs of the pack fail with it.
    """

    train: Callable[[Sequence[Job], OnStep], Sequence[Outcome]]
    _submitted: Pack | None = None
    in_process = True

    @property
    def free_slots(self) -> int:
        """1, or 0 while a pack is submitted."""
        return 0 if self._submitted else 1

    def submit(self, pack: Pack) -> None:
        """Stores the pack; `wait` trains it."""
        self._submitted = pack

    def wait(self) -> Sequence[tuple[Pack, Sequence[Outcome]]]:
        """Trains the submitted pack; returns an empty sequence if there is none.

        Raises:
            OutOfService: something that every trial needs is gone.
        """
        pack, self._submitted = self._submitted, None
        if pack is None:
            return []
        try:
            return [(pack, self.train(pack.jobs, pack.on_step))]
        except Exception as error:
            return [(pack, [failure(error)] * len(pack.jobs))]


def train_packs(executor: Executor, packs: Iterable[Pack]) -> Iterator[tuple[Pack, Sequence[Outcome]]]:
    """Trains packs, as many at once as there are free slots, and yields each one when it is done.

    A pack whose process dies is submitted again, up to three times in all; then `Died` is its outcome.
    """
    left, attempts, running = list(packs), dict[Pack, int](), set[Pack]()
    while left or running:
        while left and executor.free_slots > 0:
            pack = left.pop(0)
            attempts[pack] = attempts.get(pack, 0) + 1
            running.add(pack)
            executor.submit(pack)
        for pack, outcomes in executor.wait():
            running.remove(pack)
            if any(isinstance(outcome, Died) for outcome in outcomes) and attempts[pack] < _MAX_ATTEMPTS:
                left.append(pack)
            else:
                yield pack, outcomes
