"""AdaLoRA: ranks are pruned to a map's total, and the result is an ordinary LoRA adapter."""

from dataclasses import replace

import pytest
import torch

from rank_search.adapters import loaded
from rank_search.core.errors import TrainingFailed
from rank_search.core.job import Job, no_callback
from rank_search.training.adalora import train_adalora
from tests.bench import study_config
from tests.jobs import job_for
from tests.packs import MODELS, SPACES, LastToken

pytestmark = pytest.mark.training

TRAINING = {"steps": 24, "precision": "float32", "batch_size": 4, "learning_rate": 1e-2}


def job_of(architecture: str, rank: int = 2, seed: int = 0) -> Job:
    return job_for(SPACES[architecture].uniform(rank), seed, data_seed=3)


def run(architecture: str = "bert", *, head=(), given: Job | None = None, on_step=no_callback, **settings):
    task = LastToken(MODELS[architecture], head)
    config = study_config(training={**TRAINING, **settings.pop("training", {})}, **settings)
    return task, train_adalora(task, given or job_of(architecture), config, sources={"": "the/base"}, on_step=on_step)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_total_rank_is_the_maps_and_the_saved_adapter_scores_the_same(architecture, tmp_path) -> None:
    task, outcome = run(architecture)
    ranks = outcome.rank_map.ranks
    assert ranks.keys() == SPACES[architecture].shapes.keys()
    assert sum(ranks.values()) == 2 * len(ranks)
    assert max(ranks.values()) <= 3  # it starts with half as many again
    assert len(set(ranks.values())) > 1
    outcome.save_adapter(tmp_path / "a")
    with loaded(task.backbone, tmp_path / "a"):
        (again,) = task.evaluate("validation")
    assert again.score == pytest.approx(outcome.evaluation.score, abs=1e-6)
    assert again.score != pytest.approx(task.evaluate("validation")[0].score, abs=2e-5)


def test_a_trained_head_is_part_of_the_result(tmp_path) -> None:
    task, outcome = run(head=("classifier",))
    outcome.save_adapter(tmp_path / "a")
    with loaded(task.backbone, tmp_path / "a"):
        (again,) = task.evaluate("validation")
        head = task.backbone.classifier.modules_to_save["default"].weight
        assert not torch.equal(head, task.backbone.classifier.original_module.weight)
    assert again.score == pytest.approx(outcome.evaluation.score, abs=1e-6)


def test_base_model_is_left_as_it_was() -> None:
    model = MODELS["bert"]
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    types = [type(module) for module in model.modules()]
    run(head=("classifier",))
    with pytest.raises(TrainingFailed):
        run(training={"learning_rate": 1e30})
    assert [type(module) for module in model.modules()] == types
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert not any(weight.requires_grad for weight in model.parameters())


def test_seed_decides_the_result_and_every_step_is_reported() -> None:
    steps: list[tuple[int, float]] = []
    _, first = run(on_step=lambda *step: steps.append(step))
    _, again = run()
    _, other = run(given=job_of("bert", seed=1))
    assert steps == list(enumerate(first.losses, start=1))
    assert len(steps) == 24
    assert first.losses == again.losses
    assert first.rank_map == again.rank_map
    assert first.losses != other.losses


def test_failures_say_why() -> None:
    with pytest.raises(TrainingFailed, match="AdaLoRA needs 4 steps or more"):
        run(training={"steps": 3})
    with pytest.raises(TrainingFailed, match=r"the loss is nan at step \d+; lower the learning rate") as raised:
        run(training={"learning_rate": 1e30})
    assert raised.value.kind == "not finite"
    with pytest.raises(TrainingFailed, match=r"more than search\.trial_minutes") as raised:
        run(search={"trial_minutes": 1e-9})
    assert raised.value.kind == "time limit"


def test_result_is_scored_on_the_jobs_split(monkeypatch) -> None:
    splits = []
    evaluate = LastToken.evaluate
    monkeypatch.setattr(LastToken, "evaluate", lambda *arguments: splits.append(arguments[1]) or evaluate(*arguments))
    run(given=replace(job_of("bert"), split="test"))
    assert splits == ["test"]
