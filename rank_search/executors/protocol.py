"""What the search asks of whoever trains: to begin packs, and to say what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rank_search.core.job import Died, Rungs, unheard
from rank_search.study.faults import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rank_search.core.job import Job, OnStep, Outcome


_STARTS = 3  # of a pack whose process dies


@dataclass(frozen=True, eq=False)
class Pack:
    """Rank maps that are trained together.

    Attributes:
        jobs: what to train.
        on_step: hears how far it is.
        rungs: where maps may be stopped on their way.
    """

    jobs: Sequence[Job]
    on_step: OnStep = unheard
    rungs: Rungs = field(default_factory=Rungs)


class Executor(Protocol):
    """Trains packs, one or many at once. It knows nothing of the study.

    Thread safety: all calls come from the driver's thread, and it calls a pack's functions from that thread alone,
    while the driver waits in `finish`.
    """

    @property
    def in_process(self) -> bool:
        """Whether it trains in the driver's own process, so that a training that kills it leaves nobody to say so."""

    @property
    def room(self) -> int:
        """How many more packs it could begin now; it may change while packs are trained."""

    def begin(self, pack: Pack) -> None:
        """Begins a pack. Only called where there is room."""

    def finish(self) -> Sequence[tuple[Pack, Sequence[Outcome]]]:
        """Waits until packs are done, and says what became of each of their jobs, in order.

        It may come back with nothing after some seconds. A job whose process died has `Died` as its outcome; it may be
        trained again.

        Raises:
            OutOfService: something that every trial needs is gone.
        """


@dataclass
class Serial:
    """An executor that trains in this process, one pack after another, while it is waited for.

    Args:
        train: trains jobs, and may raise anything: that fails them, unless it is no fault of theirs.
    """

    train: Callable[[Sequence[Job], OnStep, Rungs], Sequence[Outcome]]
    _begun: Pack | None = None
    in_process = True

    @property
    def room(self) -> int:
        """One, or none while a pack is to be trained."""
        return 0 if self._begun else 1

    def begin(self, pack: Pack) -> None:
        """Puts the pack down; it is trained by `finish`."""
        self._begun = pack

    def finish(self) -> Sequence[tuple[Pack, Sequence[Outcome]]]:
        """Trains the pack."""
        pack, self._begun = self._begun, None
        if pack is None:
            return []
        try:
            return [(pack, self.train(pack.jobs, pack.on_step, pack.rungs))]
        except Exception as error:
            return [(pack, [failure(error)] * len(pack.jobs))]


def trained(executor: Executor, packs: Iterable[Pack]) -> Iterator[tuple[Pack, Sequence[Outcome]]]:
    """Trains packs, as many at once as there is room for, and yields each when it is done.

    A pack whose process dies is begun again, but for the last time, when that is its outcome.
    """
    left, starts, at_work = list(packs), dict[Pack, int](), set[Pack]()
    while left or at_work:
        while left and executor.room > 0:
            pack = left.pop(0)
            starts[pack] = starts.get(pack, 0) + 1
            at_work.add(pack)
            executor.begin(pack)
        for pack, outcomes in executor.finish():
            at_work.remove(pack)
            if any(isinstance(of, Died) for of in outcomes) and starts[pack] < _STARTS:
                left.append(pack)
            else:
                yield pack, outcomes
