"""The progress bar of a run: trials, best score, front size, time left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.trial import TrialState
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType

    from optuna import Study
    from optuna.trial import Trial
    from rich.console import Console


class ProgressBar:
    """A rich progress bar over training steps; implements `rank_search.search.loop.Progress`.

    Where the console is no terminal, such as a log file, it prints one line for each finished trial.
    """

    def __init__(self, console: Console, trials: int, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._trials = trials
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
        self._task = self._bar.add_task("", total=trials)
        self._before = 0

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def trial_started(self, trial: Trial, parameters: int) -> None:
        """Shows what is training."""
        self._before = trial.number
        self._bar.update(self._task, completed=self._before, description=f"{parameters:,} parameters")

    def step(self, steps: int) -> None:
        """Moves the bar by a step's share of a trial."""
        self._bar.update(self._task, completed=self._before + steps / self._steps)

    def trial_finished(self, study: Study, number: int) -> None:
        """Shows the study's state after a trial."""
        trials = study.get_trials(deepcopy=False)
        finished = trials[number]
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        best = max((trial.values[0] for trial in complete), default=float("nan"))
        state = f"best {best:.4f}, front {len(study.best_trials)}"
        self._bar.update(self._task, completed=number + 1, description=state)
        if not self._console.is_terminal:
            told = f"{finished.values[0]:.4f}" if finished.state == TrialState.COMPLETE else finished.state.name
            self._console.print(f"trial {number + 1}/{self._trials}: {told}; {state}", highlight=False)
