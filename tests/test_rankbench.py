"""The table of RankBench is what training gives, and its loader reads it rightly."""

import json
import math
import sys

import numpy as np
import optuna
import pytest

from rank_search.config import load_config
from rank_search.executors.local import LocalExecutor
from rank_search.search.loop import data_seed
from rank_search.tasks.load import load_task
from rank_search.training.result import Job
from tests.conftest import ROOT

FOLDER = ROOT / "benchmarks" / "rankbench"
sys.path.insert(0, str(FOLDER))

from rankbench import RankBench  # noqa: E402

ROWS = 5


@pytest.fixture(scope="module")
def bench():
    return RankBench.load()


def test_every_map_has_its_price_and_scores(bench) -> None:
    table, space = bench.table, bench.space
    assert len(table) == space.size == 729
    assert not table.duplicated(list(space.dimensions)).any()
    assert table.notna().all(axis=None)
    assert bench.examples.shape == (2, 729, 300)
    assert bench.examples.mean(axis=2) == pytest.approx(table[["score_0", "score_1"]].to_numpy().T, abs=1e-6)
    for row in table.sample(20, random_state=0).to_dict(orient="records"):
        assert row["parameters"] == space.parameters(space.rank_map(row))
        assert row["score"] == pytest.approx((row["score_0"] + row["score_1"]) / 2)


def test_objective_and_share(bench) -> None:
    trial = optuna.trial.FixedTrial(bench.space.proposal(bench.space.uniform(4)))
    row = bench.table.iloc[bench.place(trial.params)]
    assert bench.objective(trial) == (row["score"], row["parameters"])
    assert bench.objective(trial, 1) == (row["score_1"], row["parameters"])
    names = list(bench.space.dimensions)
    front = bench.front()[names].to_dict(orient="records")
    assert bench.share(front) == pytest.approx(1)
    assert bench.share(front[:-1]) < 1
    assert bench.share([bench.space.proposal(bench.space.uniform(0))]) == 0


def test_no_map_beats_the_front(bench) -> None:
    front = bench.front()
    for row in bench.table.to_dict(orient="records"):
        affordable = front[front["parameters"] <= row["parameters"]]
        assert affordable["score"].max() >= row["score"]


def test_random_rows_are_trained_again(bench) -> None:
    """By our own trainer, with the seeds on record; within three standard errors, since machines round differently."""
    config = load_config(FOLDER / "study.yaml")
    task = load_task(config)
    (record, *_) = json.loads((FOLDER / "studies.json").read_text())
    if task.data_fingerprint != record["data_fingerprint"]:
        pytest.skip(f"the table was made from the standard library of Python {record['environment']['python']}")
    rows = bench.table[bench.table["parameters"] > 0].sample(ROWS, random_state=np.random.default_rng())
    jobs = [
        Job(bench.space.rank_map(row), seed=row["seed_0"], data_seed=data_seed(config.seed), number=number)
        for number, row in enumerate(rows.to_dict(orient="records"))
    ]
    outcomes = LocalExecutor(config, task, bench.space).train(jobs, lambda _steps: None)
    noise = bench.table["score_se"].iloc[0] * math.sqrt(2)  # of one training; the table's is that of a mean of two
    scores = [outcome.evaluation.score for outcome in outcomes]
    assert scores == pytest.approx(rows["score_0"].tolist(), abs=3 * noise, rel=0), rows
