"""The progress bar of a run: trials, best score, front size, time left."""

from __future__ import annotations

from typing import TYPE_CHECKING

# Optuna has no public function for the front of some trials; this is what `Study.best_trials` calls.
from optuna.study._multi_objective import _get_pareto_front_trials_by_trials
from optuna.trial import TrialState
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rank_search.search.baselines import NAME

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from optuna import Study
    from rich.console import Console


class ProgressBar:
    """A rich progress bar over training steps; implements `rank_search.search.loop.Progress`.

    Where the console is no terminal, such as a log file, it prints one line for each finished trial.

    Args:
        console: where to draw.
        study: the study as the run finds it.
        trials: how many trials it is to have.
        steps: training steps of a trial.
    """

    def __init__(self, console: Console, study: Study, trials: int, steps: int) -> None:
        self._console = console
        self._trials = trials
        self._steps = steps
        self._found = _found(study)
        self._at_work: dict[int, float] = {}  # trial → share of its steps that is done
        self._finished = _finished(study)
        self._waited = ""
        self._training = "training"
        self._bar = Progress(
            TextColumn("trials"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(self._found, total=trials, completed=self._finished)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, what: str, done: int, of: int) -> None:
        """Shows what comes before the trials."""
        self._bar.update(self._task, description=f"{what} {done} of {of}")
        if not self._console.is_terminal and done == of:
            self._console.print(f"{what} {done} of {of}")

    def pack_started(self, numbers: Sequence[int], parameters: int) -> None:
        """Shows what is training."""
        self._at_work |= dict.fromkeys(numbers, 0.0)
        self._training = f"training {parameters:,} parameters"
        self._bar.update(self._task, description=f"{self._found}; {self._training}")

    def step(self, numbers: Sequence[int], steps: int, loss: float) -> None:
        """Moves the bar by a step's share of the trials at work."""
        self._at_work |= dict.fromkeys(numbers, steps / self._steps)
        self._bar.update(
            self._task,
            completed=self._finished + sum(self._at_work.values()),
            description=f"{self._found}; {self._training}, loss {loss:.3g}",
        )

    def waiting(self, why: str) -> None:
        """Shows why nothing is done."""
        if not self._console.is_terminal and why != self._waited:
            self._console.print(why)
        self._waited = why
        self._bar.update(self._task, description=f"{self._found}; {why}")

    def trial_finished(self, study: Study, number: int) -> None:
        """Shows the study's state after a trial."""
        self._at_work.pop(number, None)
        self._found, self._finished, self._waited = _found(study), _finished(study), ""
        done = self._finished + sum(self._at_work.values())
        self._bar.update(self._task, completed=done, description=self._found)
        if not self._console.is_terminal:
            finished = study.get_trials(deepcopy=False)[number]
            told = f"{finished.values[0]:.4f}" if finished.state == TrialState.COMPLETE else finished.state.name
            name = f"{finished.user_attrs[NAME]} " if NAME in finished.user_attrs else ""
            self._console.print(f"trial {number + 1}/{self._trials}: {name}{told}; {self._found}")


def _found(study: Study) -> str:
    """What the study has found so far."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    maps = [trial for trial in complete if NAME not in trial.user_attrs]
    if not maps:
        return "nothing found yet"
    front = _get_pareto_front_trials_by_trials(maps, study.directions)
    return f"best {max(trial.values[0] for trial in maps):.4f}, front {len(front)}"


def _finished(study: Study) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
