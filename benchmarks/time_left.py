"""How well a run foretells its end: replays finished studies, and compares what was said with what came.

    python benchmarks/time_left.py demo classifier-banking77 retriever-xquad

A study is to have been run in one sitting, as its clock is that of its trials; the end is when the verdict's scores on
the test split were written. Foretold after each finished pack from the first tenth of the trials on.
"""

from __future__ import annotations

import json
import statistics
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import optuna
import typer

from rank_search.app.loading import load_study_task
from rank_search.app.time_left import seconds_left, whole_study
from rank_search.config import load_config
from rank_search.study.handle import Study

if TYPE_CHECKING:
    from rank_search.study.record import TrialRecord

_TOGETHER = 2.0  # seconds within which trials of a pack are told


def main(
    studies: Annotated[list[str], typer.Argument(help="Finished studies.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("reports/benchmarks/time_left.json"),
) -> None:
    """Writes the errors, as parts of what was left."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = {name: replayed(name) for name in studies}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        json.dumps({"command": f"python benchmarks/time_left.py {' '.join(studies)}", **found}, indent=1) + "\n"
    )
    print(json.dumps({name: figures["within_20_percent"] for name, figures in found.items()}, indent=1))


def replayed(name: str) -> dict[str, Any]:
    """What would have been said, and what came."""
    study = Study.open(name)
    trials = sorted(study.trials(), key=_end)
    config = load_config(study.folder.path / "study.yaml")  # the study's metadata leaves out the budget
    task, space = load_study_task(config)
    work = whole_study(config, space, task)
    start = min(trial.started for trial in trials if trial.started)
    end = datetime.fromtimestamp((study.folder.path / "test.json").stat().st_mtime)  # noqa: DTZ006  # as Optuna writes it
    told = []
    for count in range(1, len(trials)):
        now = _end(trials[count - 1])
        if count < len(trials) / 10 or (_end(trials[count]) - now).total_seconds() < _TOGETHER:
            continue
        seconds = seconds_left(work, trials[:count])
        if seconds is None:
            continue
        pace = (now - start).total_seconds() / sum(sum(parts) for parts in work.seconds(trials[:count]).values())
        came = (end - now).total_seconds()
        told.append({"trials": count, "said": round(pace * seconds), "came": round(came)})
    errors = [reading["said"] / reading["came"] - 1 for reading in told]
    return {
        "seconds": round((end - start).total_seconds()),
        "within_20_percent": round(sum(abs(error) <= 0.2 for error in errors) / len(errors), 3),
        "median_error": round(statistics.median(errors), 3),
        "told": told,
    }


def _end(trial: TrialRecord) -> datetime:
    assert trial.finished is not None  # noqa: S101  # the study is finished
    return trial.finished


if __name__ == "__main__":
    typer.run(main)
