"""The table of RankBench is what training gives, and its loader reads it rightly."""

import json
import math
import sys

import numpy as np
import optuna
import pytest

from rank_search.config import load_config
from rank_search.core.job import no_callback
from rank_search.executors.local import LocalExecutor
from rank_search.tasks.load import load_task
from tests.conftest import ROOT

FOLDER = ROOT / "benchmarks" / "rankbench"
sys.path.insert(0, str(FOLDER))

from rankbench import RankBench  # noqa: E402

from rank_search.core.seeds import batch_seed  # noqa: E402
from tests.jobs import job_for  # noqa: E402

pytestmark = pytest.mark.training
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
    proposal = bench.space.proposal(bench.space.uniform(4))
    trial, row = optuna.trial.FixedTrial(proposal), bench.table.iloc[bench.place(proposal)]
    assert bench.objective(trial) == (row["score"], row["parameters"])
    assert bench.objective(trial, 1) == (row["score_1"], row["parameters"])
    names = list(bench.space.dimensions)
    front = bench.front()[names].to_dict(orient="records")
    assert bench.share(front) == pytest.approx(1)
    assert bench.share(front[:-1]) < 1
    assert bench.share([bench.space.proposal(bench.space.uniform(0))]) == 0


@pytest.mark.parametrize("column", ["expected", "score"])
def test_no_map_beats_the_front(bench, column) -> None:
    front = bench.front(column)
    for row in bench.table.to_dict(orient="records"):
        affordable = front[front["parameters"] <= row["parameters"]]
        assert affordable[column].max() >= row[column]


def test_expected_scores_are_nearer_to_the_other_training_than_a_training_is(bench) -> None:
    """And what they leave out of one training does not come back in the other."""
    trained = bench.table[bench.table["parameters"] > 0]
    assert trained["expected_se"].mean() < 0.5 * trained["score_se"].mean()
    left = [trained[f"score_{n}"] - trained["expected"] for n in (0, 1)]
    assert abs(np.corrcoef(*left)[0, 1]) < 0.2
    untrained = bench.table[bench.table["parameters"] == 0]
    assert untrained["expected"].tolist() == untrained["score"].tolist()


@pytest.mark.long
def test_random_rows_are_trained_again(bench) -> None:
    """By our own trainer, with the seeds on record; within three standard errors, since machines round differently."""
    config = load_config(FOLDER / "study.yaml")
    task = load_task(config)
    (record, *_) = json.loads((FOLDER / "studies.json").read_text())
    if task.data_fingerprint != record["data_fingerprint"]:
        pytest.skip(f"the table was made from the standard library of Python {record['environment']['python']}")
    rows = bench.table[bench.table["parameters"] > 0].sample(ROWS, random_state=np.random.default_rng())
    jobs = [
        job_for(bench.space.rank_map(row), seed=row["seed_0"], data_seed=batch_seed(config.seed), number=number)
        for number, row in enumerate(rows.to_dict(orient="records"))
    ]
    outcomes = LocalExecutor(config, task, bench.space).train(jobs, no_callback)
    noise = bench.table["score_se"].iloc[0] * math.sqrt(2)  # of one training; the table's is that of a mean of two
    scores = [outcome.evaluation.score for outcome in outcomes]
    assert scores == pytest.approx(rows["score_0"].tolist(), abs=3 * noise, rel=0), rows
