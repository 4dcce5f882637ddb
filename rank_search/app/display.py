"""What a run shows: what is done and in training, the front so far, and how long it still takes."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rank_search.analysis.evidence import study_evidence
from rank_search.analysis.slope import slope
from rank_search.app.plot import scatter
from rank_search.app.time_left import seconds_left
from rank_search.core import pareto
from rank_search.core.errors import RankSearchError
from rank_search.core.rivals import UNIFORM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import Console, RenderableType

    from rank_search.app.time_left import Workload
    from rank_search.study.handle import Study


@dataclass
class _Pack:
    """Trials that train together.

    Attributes:
        numbers: of the trials.
        parameters: of all their adapters.
        steps: that are done.
        loss: the mean of the last one.
    """

    numbers: Sequence[int]
    parameters: int
    steps: int = 0
    loss: float = math.nan


class Display:
    """A live display of a run; implements `rank_search.search.loop.Progress`.

    Where the console is no terminal, such as a log file, it prints one line for each finished trial.

    Args:
        console: where to draw.
        study: the study as the run finds it.
        work: what the whole study comes to.
        steps: training steps of a trial.
    """

    def __init__(self, console: Console, study: Study, work: Workload, steps: int) -> None:
        self._console = console
        self._work = work
        self._steps = steps
        self._packs: dict[tuple[int, ...], _Pack] = {}
        self._waited = ""
        self._start: float | None = None  # when the first pack of this run was
        self._end: float | None = None  # when all will be done
        self._verdict_start: tuple[float, int] | None = None  # when, and how many trainings were done
        self._bar = Progress(
            TextColumn("{task.fields[stage]}"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._task = self._bar.add_task("", total=work.trials, stage="trials", left="")
        self._look(study)
        self._before = self._trained  # seconds that earlier runs have trained for
        self._slope_is_shown = _has_ladder(study)
        self._live = Live(console=console, get_renderable=self.shown, refresh_per_second=2)

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def stage(self, what: str, done: int, total: int) -> None:
        """Shows what comes before the trials, or after them."""
        if not self._console.is_terminal and done == total:
            self._console.print(f"{what} {done} of {total}")
        self._bar.update(self._task, description=f"{what} {done} of {total}")

    def verdict(self, done: int, total: int) -> None:
        """Shows how far the verdict's trainings are; once some are done, their pace gives the time left."""
        self.stage("verdict: fresh training", done, total)
        now = time.monotonic()
        if self._verdict_start is None:
            self._verdict_start = now, done
        start, before = self._verdict_start
        if done > before:
            self._end = now + (now - start) / (done - before) * (total - done)

    def pack_started(self, numbers: Sequence[int], parameters: int) -> None:
        """Shows what is training."""
        self._start = self._start or time.monotonic()
        self._packs[tuple(numbers)] = _Pack(numbers, parameters)

    def step(self, numbers: Sequence[int], steps: int, loss: float) -> None:
        """Moves the bar by a step's share of the trials at work."""
        if (pack := self._packs.get(tuple(numbers))) is not None:
            pack.steps, pack.loss = steps, loss
        self._bar.update(self._task, completed=self._finished + self._under_way())

    def waiting(self, why: str) -> None:
        """Shows why nothing is done."""
        if not self._console.is_terminal and why != self._waited:
            self._console.print(why)
        self._waited = why
        self._bar.update(self._task, description=f"{self._found}; {why}")

    def trial_finished(self, study: Study, number: int) -> None:
        """Shows the study's state after a trial."""
        self._waited = ""
        self._look(study)
        self._foresee()
        if not self._console.is_terminal:
            trial = study.trial(number)
            outcome = trial.state.name if trial.score is None else f"{trial.score:.4f}"
            name = "" if trial.in_space else f"{trial.label} "
            self._console.print(f"trial {number + 1}/{self._work.trials}: {name}{outcome}; {self._found}")
        if not self._slope_is_shown and _has_ladder(study):
            self._slope_is_shown = True
            with suppress(RankSearchError):  # a damaged result; what needs it says so, and no trial is lost for it
                if (found := slope(study_evidence(study))) is not None:
                    self._console.print(found.sentence)

    def shown(self) -> RenderableType:
        """All of it, as it is now."""
        self._bar.update(self._task, left=self._left())
        packs = Table.grid(padding=(0, 2))
        for pack in self._packs.values():
            names = ", ".join(str(number) for number in pack.numbers)
            loss = f"loss {pack.loss:.3g}" if math.isfinite(pack.loss) else ""
            of_steps = f"step {pack.steps} of {self._steps}"
            packs.add_row(f"in training: {names}", f"{pack.parameters:,} parameters", of_steps, loss)
        return Group(self._bar, packs, Text(self._plot()))

    def _look(self, study: Study) -> None:
        """Takes in the study as it is."""
        trials = study.trials()
        done = {trial.number for trial in trials if trial.state.is_finished()}
        self._packs = {key: pack for key, pack in self._packs.items() if not done.issuperset(pack.numbers)}
        maps = [
            (trial.score, study.space.parameters(trial.rank_map))
            for trial in trials
            if trial.in_space and trial.score is not None and trial.rank_map is not None
        ]
        points = pareto.minimised([score for score, _ in maps], [parameters for _, parameters in maps])
        self._front = [maps[position] for position in pareto.front(points)]
        best = f"best {max(score for score, _ in maps):.4f}, front {len(self._front)}" if maps else ""
        self._found = best or "nothing found yet"
        self._finished = len(done)
        self._seconds = seconds_left(self._work, trials)
        self._trained = sum(sum(parts) for parts in self._work.seconds(trials).values())
        self._bar.update(self._task, completed=self._finished + self._under_way(), description=self._found)

    def _under_way(self) -> float:
        """Trials at work, by their share of steps."""
        return sum(len(pack.numbers) * pack.steps / self._steps for pack in self._packs.values())

    def _foresee(self) -> None:
        """Works out when it will end, by the wall clock of this run: workers train at once, and proposals take time."""
        here, now = self._trained - self._before, time.monotonic()
        if self._seconds is not None and self._start is not None and here > 0:
            self._end = now + (now - self._start) / here * self._seconds

    def _left(self) -> str:
        if self._end is None:
            return ""
        return f"about {max(1, math.ceil((self._end - time.monotonic()) / 60))} min left"

    def _plot(self) -> str:
        """Score against parameters of the front."""
        adapted = [(score, parameters) for score, parameters in self._front if parameters]
        return front_plot(adapted) if len(adapted) > 1 else ""


def front_plot(front: Sequence[tuple[float, int]]) -> str:
    """Score against parameters, on a log axis, in characters.

    Args:
        front: score and parameters (above 0) of two maps or more.
    """
    return scatter([(parameters, score) for score, parameters in front])


def _has_ladder(study: Study) -> bool:
    """Whether all uniform maps of a study are done."""
    done = [trial for trial in study.trials() if trial.state.is_finished() and trial.attributes.kind == UNIFORM]
    return sum(not trial.attributes.batch_order for trial in done) >= len(study.space.ladder)
