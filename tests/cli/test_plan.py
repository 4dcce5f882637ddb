"""``plan``: what it prints of an estimate; the estimate on the real model is in tests/test_end_to_end.py."""

import json
from dataclasses import replace

import pytest
import yaml

from rank_search.analysis.power import power
from rank_search.app.plan import Estimate
from tests.bench import SPACE
from tests.cli.conftest import SETTINGS, refused
from tests.conftest import in_process

ESTIMATE = Estimate(
    study="mine",
    space=replace(SPACE, left_out={f"tower.{i}.w": "is never called for this task" for i in range(2)}),
    head_parameters=7,
    cut={"queries": (3, 40), "documents": (0, 40)},
    notes=("2 of 40 texts of test are in train too",),
    trials=25,
    baselines=(2, 1),
    rate_trainings=10,
    verdict_trainings=8,
    step_flops=1.2e10,
    flops_rate=2.4e10,
    step_seconds=0.5,
    evaluation_seconds=2.0,
    trial_seconds=22.0,
    power=power(400, 500, 10, 0.008),
)


@pytest.fixture
def planned(command, study_file, monkeypatch):
    """Runs ``plan`` where the estimate is known."""
    monkeypatch.chdir(command.folder)
    monkeypatch.setattr("rank_search.app.plan.estimate_study", lambda _config: ESTIMATE)
    return lambda *options: in_process("plan", study_file, *options)


def test_plan_refuses_in_the_same_words(command, study_file) -> None:
    (command.folder / study_file).write_text(yaml.safe_dump({**SETTINGS, "space": {"ladder": [1, 512]}}))
    line = refused(command, "plan", study_file)
    assert line.startswith("mine.yaml: space.ladder: rank 512 is above")


def test_json_is_one_object_and_nothing_else(planned) -> None:
    status, out, said = planned("--json")
    assert (status, said) == (0, "")
    content = json.loads(out)
    assert content["study"] == "mine"
    assert content["modules"] == {name: [10, 10 + i] for i, name in enumerate(SPACE.shapes)}
    assert content["left_out"] == dict.fromkeys(["tower.0.w", "tower.1.w"], "is never called for this task")
    assert content["space_size"] == 4**4
    assert content["notes"] == ["2 of 40 texts of test are in train too"]
    assert content["baselines"] == {"trained": 2, "scored": 1}
    assert content["estimated_seconds"] == (25 + 10 + 2 + 8) * 22.0 + 2.0


def test_people_get_tables_and_sentences(planned) -> None:
    status, out, said = planned("--set", "training.steps=40")
    assert (status, said) == (0, "")
    assert "4 dimensions, ladder [0, 1, 2, 4]: 256 maps" in out
    assert "not searched: tower.*.w (2), which is never called for this task" in out
    assert "and 7 parameters of the head" in out
    assert "3 of 40 queries are longer than" in out
    assert "documents are longer" not in out
    assert "2 of 40 texts of test are in train too\n" in out
    assert "a trial takes 22 s: 40 steps of 0.50 s, which is 12 GFLOP at 24 GFLOP a second" in out
    assert (
        "10 trainings for learning rates, 25 trials, 2 baselines to train and 1 to score, 8 fresh trainings for "
        "the verdict: about 17 min" in out
    )
