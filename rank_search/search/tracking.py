"""Experiment trackers: each trained trial is sent, as a run of its own, to those that a study names."""

from __future__ import annotations

import io
import json
import os
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rank_search.errors import InputError
from rank_search.files import write_text
from rank_search.search.table import trial_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from accelerate.tracking import GeneralTracker
    from optuna import Study
    from optuna.trial import FrozenTrial

    from rank_search.search.storage import StudyFolder
    from rank_search.space import Space


class Trackers:
    """The trackers of a study, fed from its folder by way of `accelerate.tracking`.

    What was sent is kept there in ``trackers.json``, so that a later run sends what this one could not. A trial at
    whose sending the process dies is sent again.

    Args:
        names: of the trackers, as in a study file.
        study: the study.
        folder: its folder; trials whose results lie here are sent, which are those that this machine told the study.
        space: what is searched.
        told: is told of a tracker that fails. It gets nothing more in this run, and the study goes on.
    """

    def __init__(
        self, names: Iterable[str], study: Study, folder: StudyFolder, space: Space, told: Callable[[str], None]
    ) -> None:
        self._names = list(names)
        self._study = study
        self._folder = folder
        self._space = space
        self._told = told
        self._file = folder.path / "trackers.json"
        kept = json.loads(self._file.read_text(encoding="utf-8")) if self._file.is_file() else {}
        self._sent = {name: set(kept.get(name, [])) for name in {*kept, *self._names}}

    def send(self) -> None:
        """Sends the trained trials that were not sent yet."""
        for name in [*self._names]:
            try:
                self._send_to(name)
            except Exception as error:  # whatever ails a tracker, the study goes on
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                self._told(f"trackers: {name} gets no more trials in this run, which goes on ({reason})")
                self._names.remove(name)

    def _send_to(self, name: str) -> None:
        for trial in self._study.get_trials(deepcopy=False):
            if not trial.state.is_finished() or trial.number in self._sent[name]:
                continue
            if result := self._folder.read_result(trial.number):
                with redirect_stdout(io.StringIO()):  # trackers greet each run
                    self._send_trial(name, trial, result)
                self._sent[name].add(trial.number)
                write_text(self._file, json.dumps({of: sorted(sent) for of, sent in self._sent.items()}))

    def _send_trial(self, name: str, trial: FrozenTrial, result: Mapping[str, Any]) -> None:
        """Its map and settings, the loss of each step, and what it came to."""
        row = trial_row(trial, self._space)
        run = row["baseline"] or f"trial {trial.number}"
        tracker = _tracker(name, self._study.study_name, run, (self._folder.path / "trackers").absolute())
        tracker.start()
        ranks = {f"rank/{module}": rank for module, rank in row["ranks"].items()}
        described = {of: row[of] for of in ("number", "kind", "round", "seed")}
        tracker.store_init_configuration({**described, **row["settings"], **ranks})
        losses = result["losses"]
        for step, loss in enumerate(losses, start=1):
            tracker.log({"loss": loss}, step=step)
        outcome = {of: row[of] for of in ("score", "score_se", "trainable_parameters", "seconds")}
        known = {of: value for of, value in outcome.items() if value is not None}
        metrics = {of.replace("@", " at "): value for of, value in trial.user_attrs.get("metrics", {}).items()}
        tracker.log({**metrics, **known}, step=len(losses))
        tracker.finish()


def check_installed(names: Iterable[str]) -> None:
    """Checks that trackers can be used.

    Raises:
        InputError: one is not installed.
    """
    for name in names:
        if find_spec(name) is None:
            raise InputError(f"{name} is not installed; pip install 'rank_search[{name}]'", field="trackers")


def _tracker(name: str, study: str, run: str, folder: Path) -> GeneralTracker:
    """A tracker's run, which writes below the folder unless the tracker's own environment variables say where.

    Args:
        name: of the tracker.
        study: names the project or experiment.
        run: name of the run.
        folder: for what trackers write.
    """
    from accelerate import PartialState, tracking

    PartialState(cpu=True)  # trackers ask it which process they are in
    if name == "tensorboard":
        return tracking.TensorBoardTracker(run, logging_dir=folder / name)
    if name == "wandb":
        from wandb import Settings

        folder.mkdir(exist_ok=True)
        place = os.environ.get("WANDB_DIR", str(folder))
        return tracking.WandBTracker(study, name=run, dir=place, settings=Settings(silent=True))
    if name == "mlflow":
        import mlflow

        folder.mkdir(exist_ok=True)
        mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}"))
        return tracking.MLflowTracker(study, run_name=run)
    os.environ.setdefault("TRACKIO_DIR", str(folder / name))  # read when it is imported
    return tracking.TrackioTracker(study, name=run, auto_log_cpu=False, auto_log_gpu=False)
