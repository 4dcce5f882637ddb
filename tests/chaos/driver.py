"""A driver of the study that the chaos test runs: real search, storage and Ray; only the training is pretended."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from random import Random

from rank_search.executors.payload import picklable
from rank_search.executors.ray_cluster import RayExecutor
from rank_search.executors.ray_worker import Assignment
from rank_search.study.folder import StudyFolder
from tests.bench import SPACE, Bench, Landscape, study_config

TRIALS, REPEATS = 150, 24
NOISE = 0.02


class Pretended:
    """A worker that scores maps by a formula, after a while."""

    def __init__(self, _assignment) -> None:
        pass

    def train(self, jobs, connection, adapters):
        time.sleep(Random().uniform(0.3, 1.2))
        connection.report(1, 1.0)
        return [picklable(outcome) for outcome in Landscape(noise=NOISE).train(jobs, connection.report)]


def main(folder: str, storage: str, address: str) -> None:
    config = study_config(executor={"kind": "ray", "address": address, "workers": 2})
    executor = RayExecutor(config.executor, Assignment(config, SPACE, "", "", ".", 1), None, Pretended)
    try:
        Bench(StudyFolder(Path(folder))).search(TRIALS, executor, storage=storage, repeats=REPEATS, baselines=[])
    finally:
        executor.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
