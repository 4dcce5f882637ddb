"""How far apart two trainings of the same map score, with and without common batches.

The same uniform map is trained with several seeds: first with other adapter starts on the same batches, as the trials
of a study are; then with other batches too, as independent trainings would be. Prints one JSON object.

    python benchmarks/seed_noise.py > benchmarks/seed_noise.json
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Annotated

import typer

from rank_search.config import load_config
from rank_search.core.candidate import Candidate
from rank_search.core.job import FineTuned, Job, no_callback
from rank_search.executors.local import LocalExecutor
from rank_search.models.modules import build_space
from rank_search.models.source import choose_device
from rank_search.study.metadata import environment
from rank_search.tasks.load import load_task

DEMO = Path(__file__).parent.parent / "configs" / "demo.yaml"


def main(seeds: int = 6, rank: int = 2, overrides: Annotated[list[str] | None, typer.Option("--set")] = None) -> None:
    """Trains the uniform map of the demo twice ``seeds`` times."""
    config = load_config(DEMO, overrides or ())
    task = load_task(config)
    space = build_space(task.backbone, config)
    executor = LocalExecutor(config, task, space)

    def scores(jobs: list[Job]) -> dict[str, object]:
        outcomes = [executor.train([job], no_callback)[0] for job in jobs]
        found = [outcome.evaluation.score for outcome in outcomes if isinstance(outcome, FineTuned)]
        return {"scores": found, "mean": statistics.fmean(found), "standard_deviation": statistics.stdev(found)}

    rank_map = space.uniform(rank)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "metric": config.task.metric,
        "rank": rank,
        "common_batches": scores([Job(Candidate(rank_map), seed, data_seed=1) for seed in range(1, seeds + 1)]),
        "own_batches": scores([Job(Candidate(rank_map), seed, data_seed=seed) for seed in range(1, seeds + 1)]),
        "environment": environment(str(choose_device(config.model))),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    typer.run(main)
