"""Experiment trackers: each finished trial is sent, as a run of its own, to those that a study names."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from rank_search.core.errors import RankSearchError, printable
from rank_search.core.files import write_text
from rank_search.study.faults import patiently
from rank_search.study.table import trial_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from accelerate.tracking import GeneralTracker

    from rank_search.study.handle import Study
    from rank_search.study.record import TrialRecord


_SECRET = re.compile(r"(KEY|TOKEN|PASSWORD|SECRET)$", re.IGNORECASE)  # names of such variables end so
_LEAST_SECRET = 6  # characters; a shorter value may be part of any word


class Trackers:
    """The trackers of a study, fed from its folder by way of `accelerate.tracking`.

    What was sent is kept there in ``trackers.json``, so that a later run sends what this one could not; where drivers
    share the folder, one at a time sends. A trial at whose sending the process dies is sent again.

    Args:
        names: of the trackers, as in a study file.
        study: the study; trials whose results lie in its folder are sent.
        say: is given a line about a tracker that fails. It gets nothing more in this run, and the study goes on.
    """

    def __init__(self, names: Iterable[str], study: Study, say: Callable[[str], None]) -> None:
        self._names = list(names)
        self._study = study
        self._say = say
        self._place = study.folder.path.absolute() / "trackers"

    def send(self) -> None:
        """Sends the finished trials that were not sent yet; the study waits for it.

        Raises:
            OutOfService: the storage stays out of reach.
            OSError: what was sent can't be written down.
        """
        if not self._names:
            return
        self._place.mkdir(exist_ok=True)
        with suppress(Timeout), FileLock(self._place / "lock", timeout=0):  # else another driver is at it
            trials = patiently(self._study.trials, self._say)
            for name in [*self._names]:
                self._send_to(name, trials)

    def _send_to(self, name: str, trials: Iterable[TrialRecord]) -> None:
        sent = self._sent()
        before = set(sent.get(name, []))
        for trial in trials:
            if not trial.state.is_finished() or trial.number in before:
                continue
            if result := self._result(trial):
                if not self._was_sent(name, trial, result):
                    return
                sent.setdefault(name, []).append(trial.number)
                write_text(self._file, json.dumps(sent))

    def _result(self, trial: TrialRecord) -> dict[str, Any]:
        """What is kept of a trial; empty where it is damaged; `doctor` reports the damage."""
        with suppress(RankSearchError):
            return self._study.folder.read_result(trial.number)
        return {}

    @property
    def _file(self) -> Path:
        return self._study.folder.path / "trackers.json"

    def _sent(self) -> dict[str, list[int]]:
        """Numbers of the trials that each tracker was sent; nothing where that is not to be read."""
        with suppress(OSError, TypeError, ValueError):
            sent = json.loads(self._file.read_text(encoding="utf-8"))
            return {str(name): list(numbers) for name, numbers in dict(sent).items()}
        return {}

    def _was_sent(self, name: str, trial: TrialRecord, result: Mapping[str, Any]) -> bool:
        """Sends a trial. A tracker that raises anything is reported once and gets nothing more."""
        try:
            with _unattended(self._place):
                self._send_trial(name, trial, result)
        except Exception as error:
            reason = printable(_without_secrets(" ".join(f"{type(error).__name__}: {error}".split())))
            self._say(f"trackers: {name} gets no more trials in this run, which goes on ({reason})")
            self._names.remove(name)
            return False
        return True

    def _send_trial(self, name: str, trial: TrialRecord, result: Mapping[str, Any]) -> None:
        """Its map and settings, the loss of each step, and what it came to."""
        row = trial_row(trial, self._study.space)
        tracker = _tracker(name, self._study.name, trial.label, self._place)
        tracker.start()
        try:
            ranks = {f"rank/{module}": rank for module, rank in row["ranks"].items()}
            described = {name: row[name] for name in ("number", "state", "kind", "recipe", "batch_order", "seed")}
            tracker.store_init_configuration({**described, **row["settings"], **ranks})
            losses = result["losses"]
            for step, loss in enumerate(losses, start=1):
                tracker.log({"loss": loss}, step=step)
            outcome = {name: row[name] for name in ("score", "score_se", "trainable_parameters", "seconds")}
            known = {name: value for name, value in outcome.items() if value is not None}
            metrics = {name.replace("@", " at "): value for name, value in trial.attributes.metrics.items()}
            tracker.log({**metrics, **known}, step=len(losses))
        finally:
            tracker.finish()


def _without_secrets(text: str) -> str:
    """A text in which what the environment keeps under a name such as ``WANDB_API_KEY`` is masked."""
    secrets = [value for name, value in os.environ.items() if _SECRET.search(name) and len(value) >= _LEAST_SECRET]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


@contextmanager
def _unattended(folder: Path) -> Iterator[None]:
    """Trackers write below a folder unless the environment says otherwise; they print no greeting and ask nothing."""
    before, stdin = dict(os.environ), sys.stdin
    ours = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "TRACKIO_DIR": str(folder / "trackio"),  # read once, when it is imported
        "WANDB_CACHE_DIR": str(folder / "wandb"),
        "WANDB_DIR": str(folder),
    }
    os.environ.update(ours | before)
    sys.stdin = io.StringIO()
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.stdin = stdin
        os.environ.clear()
        os.environ.update(before)


def _tracker(name: str, study: str, run: str, folder: Path) -> GeneralTracker:
    """A tracker's run.

    Args:
        name: of the tracker.
        study: names the project or experiment.
        run: name of the run.
        folder: for TensorBoard's files.
    """
    from accelerate import PartialState, tracking

    PartialState(cpu=True)  # trackers ask it which process they are in
    if name == "tensorboard":
        return tracking.TensorBoardTracker(run, logging_dir=folder / name)
    if name == "wandb":
        from wandb import Settings

        # Its metadata are the command line, which may hold the storage's password.
        settings = Settings(silent=True, console="off", disable_git=True, x_disable_meta=True, x_disable_stats=True)
        return tracking.WandBTracker(study, name=run, settings=settings)
    if name == "mlflow":
        return tracking.MLflowTracker(study, run_name=run)
    return tracking.TrackioTracker(study, name=run, auto_log_cpu=False, auto_log_gpu=False)
