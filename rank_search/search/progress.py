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
        self._at_work = 1
        self._begun = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
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
        self._task = self._bar.add_task(self._found, total=trials, completed=self._begun)

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
        self._begun, self._at_work = min(numbers), len(numbers)
        self._bar.update(self._task, description=f"{self._found}; training {parameters:,} parameters")

    def step(self, steps: int) -> None:
        """Moves the bar by a step's share of the trials at work."""
        self._bar.update(self._task, completed=self._begun + self._at_work * steps / self._steps)

    def trial_finished(self, study: Study, number: int) -> None:
        """Shows the study's state after a trial."""
        self._found = _found(study)
        self._bar.update(self._task, completed=number + 1, description=self._found)
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
