"""Whether searching the learning rate and α beside the ranks changes which map wins.

    python -m rank_search run configs/demo.yaml
    python -m rank_search run configs/demo.yaml --set study=demo-joint --set search.trials=48 \
        --set "space.learning_rate=[5.0e-4, 8.0e-3]" --set "space.alpha=[1, 16]"
    python benchmarks/joint.py

The best map of each study is trained afresh at its own settings and at the other's, on common seeds, and scored on the
test split: if settings change by how much a map wins, ranks can't be searched at fixed settings. The same command goes
on with what it has, in studies/demo-joint-fresh.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optuna
import typer

from rank_search.analysis.choice import choose
from rank_search.analysis.evidence import study_evidence
from rank_search.analysis.importance import importance
from rank_search.analysis.paired import paired_difference
from rank_search.app.loading import load_study_task
from rank_search.core.candidate import Candidate
from rank_search.core.choice import Rule
from rank_search.core.ranks import RankMap
from rank_search.executors.local import LocalExecutor
from rank_search.search.fresh_trainings import FreshTrainings
from rank_search.study.folder import CONFIRMATIONS, StudyFolder
from rank_search.study.handle import Study
from rank_search.study.metadata import environment

OUT = Path("reports/benchmarks")


def main(
    fixed: Annotated[str, typer.Argument(help="Study that searches ranks alone.")] = "demo",
    joint: Annotated[str, typer.Argument(help="Study that searches settings, too.")] = "demo-joint",
    seeds: Annotated[int, typer.Option(help="Fresh trainings of each map at each setting.")] = 5,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = OUT,
) -> None:
    """Trains both maps at both settings, and writes joint.json."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    studies = {name: Study.open(name) for name in (fixed, joint)}
    best = {name: choose(study_evidence(study), Rule("best")) for name, study in studies.items()}
    study = studies[joint]
    settings = {
        joint: best[joint].settings,
        fixed: {name: setting.default for name, setting in study.space.joint.items()},
    }
    candidates = {
        (source, at): Candidate(RankMap(best[source].ranks), settings[at])
        for source, at in product((fixed, joint), repeat=2)
    }
    config = study.config
    task, space = load_study_task(config)
    fresh = StudyFolder.named(f"{joint}-fresh")
    executor = LocalExecutor(config, task, space)
    FreshTrainings(fresh, config.seed).run(
        list(candidates.values()), seeds, executor, lambda done, of: print(f"{done} of {of}", flush=True)
    )
    values = {key: _values(fresh, candidate, seeds, config.task.metric) for key, candidate in candidates.items()}
    at_joint, at_fixed = (values[joint, at] - values[fixed, at] for at in (joint, fixed))
    content = {
        "command": f"python benchmarks/joint.py {fixed} {joint} --seeds {seeds}",
        "environment": environment("cpu"),
        "maps": {name: asdict(trial) for name, trial in best.items()},
        "settings": settings,
        "importance": dict(importance(study)),
        "test": {f"map of {source} at settings of {at}": _scores(values[source, at]) for source, at in candidates},
        "differences": {
            f"map of {joint} minus map of {fixed}, at settings of {fixed}": _difference(at_fixed),
            f"map of {joint} minus map of {fixed}, at settings of {joint}": _difference(at_joint),
            "how much the settings change that": _difference(at_joint - at_fixed),
            **{
                f"settings of {joint} minus settings of {fixed}, for the map of {source}": _difference(
                    values[source, joint] - values[source, fixed]
                )
                for source in (fixed, joint)
            },
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "joint.json").write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps({key: content[key] for key in ("settings", "test", "differences")}, indent=2))


def _values(folder: StudyFolder, candidate: Candidate, seeds: int, metric: str) -> np.ndarray:
    """``[seeds, examples]``: what a map scored."""
    results = [folder.read_training(CONFIRMATIONS, candidate.key, number) for number in range(seeds)]
    if failed := [result["reason"] for result in results if "reason" in result]:
        raise SystemExit(f"{folder.path}: a training failed: {failed[0]}; remove its file to try it again")
    return np.array([result["values"][metric] for result in results])


def _scores(values: np.ndarray) -> dict[str, Any]:
    of_seed = values.mean(axis=1).tolist()
    return {"mean": statistics.fmean(of_seed), "of seeds": of_seed}


def _difference(values: np.ndarray) -> dict[str, float]:
    low, high = paired_difference(values.tolist()).interval()
    return {"mean": float(values.mean()), "ci_low": low, "ci_high": high}


if __name__ == "__main__":
    typer.run(main)
