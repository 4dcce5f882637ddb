"""Training of a pack: each map as alone, by plain PEFT."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from rank_search.adapters import Member, loaded, packed
from rank_search.core.errors import TrainingFailed
from rank_search.core.ranks import RankMap
from rank_search.tasks.base import BatchShape
from rank_search.training.trainer import fine_tune, time_steps
from tests import peft_oracle
from tests.bench import study_config
from tests.jobs import job_for
from tests.packs import ARCHITECTURES, MODELS, SPACES, LastToken, from_layer, jobs_of, rank_map, saved, study, tensors

pytestmark = pytest.mark.training


def plain_loss(model: nn.Module, batch) -> torch.Tensor:
    logits = model(input_ids=batch["input_ids"], use_cache=False).logits
    return functional.cross_entropy(logits if logits.ndim == 2 else logits[:, -1], batch["labels"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pack_trains_each_map_as_plain_peft_does_alone(architecture, tmp_path) -> None:
    """Every adapter tensor agrees to 1e-4 of its norm after 20 steps, for heterogeneous ranks and settings."""
    config, jobs, model = study(), jobs_of(architecture), MODELS[architecture]
    task = LastToken(model)
    outcomes = fine_tune(task, jobs, config, sources={"": "the/base"})
    for k, (job, outcome) in enumerate(zip(jobs, outcomes, strict=True)):
        tuned = config.tuned(job.settings)
        with packed(model, [Member(job.rank_map, tuned.adapter, job.seed)]) as pack:
            start = {
                name: (a[:, :rank].T, b[:rank].T)
                for name, rank in job.rank_map.adapted.items()
                for a, b in [tensors(pack)[name]]
            }
        alone = peft_oracle.trained(
            copy.deepcopy(model),
            job.rank_map,
            tuned.adapter,
            tuned.training,
            start,
            task.training_batches(20, job.data_seed),
            plain_loss,
            fan_in_fan_out=architecture == "gpt2",
        )
        found = saved(outcome, tmp_path / str(k))
        assert len(found) == 2 * len(alone) > 0
        for name, wanted in alone.items():
            for letter, tensor in zip("AB", wanted, strict=True):
                ours = found[f"base_model.model.{name}.lora_{letter}.weight"]
                assert ours.shape == tensor.shape
                assert (ours - tensor).norm() <= 1e-4 * tensor.norm(), (name, letter)
                assert not torch.equal(tensor, start[name][letter == "B"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_poisoned_map_fails_alone(architecture, tmp_path) -> None:
    config, jobs = study(), jobs_of(architecture)
    task = LastToken(MODELS[architecture])
    task.poison = {7: 1}
    outcomes = fine_tune(task, jobs, config, sources={})
    assert isinstance(outcomes[1], TrainingFailed)
    assert str(outcomes[1]) == "the loss is nan at step 7; lower the learning rate or alpha"
    task.poison = {}
    without = fine_tune(task, [job for job in jobs if job.number != 1], config, sources={})
    for place, (found, wanted) in enumerate(zip([outcomes[0], *outcomes[2:]], without, strict=True)):
        ours, theirs = saved(found, tmp_path / f"a{place}"), saved(wanted, tmp_path / f"b{place}")
        assert ours.keys() == theirs.keys()
        assert all((ours[name] - theirs[name]).norm() <= 1e-5 * theirs[name].norm() for name in ours)
        assert found.losses == pytest.approx(wanted.losses, rel=1e-5)


def test_diverging_map_leaves_those_alone_that_share_its_lower_layers() -> None:
    """Its gradients run, as NaN, through the rows that stood for both below their lowest adapted layer."""
    config, task = study(steps=8), LastToken(MODELS["bert"])
    wild = {"learning_rate": 1e25}
    jobs = [
        job_for(from_layer("bert", 0), 1, data_seed=0, number=0),
        job_for(from_layer("bert", 1), 2, data_seed=0, number=1),
        job_for(from_layer("bert", 1), 3, data_seed=0, number=2, settings=wild),
    ]
    first, second, third = fine_tune(task, jobs, config, sources={})
    assert isinstance(third, TrainingFailed)
    for found, job in ((first, jobs[0]), (second, jobs[1])):
        (alone,) = fine_tune(task, [job], config, sources={})
        assert found.losses == pytest.approx(alone.losses, rel=1e-5)


def test_padding_stays_exactly_zero(monkeypatch) -> None:
    model, jobs = MODELS["bert"], jobs_of("bert")
    seen = []
    monkeypatch.setattr("rank_search.adapters.Pack.adapters", lambda pack, *_: seen.append(pack) or _Kept())
    fine_tune(LastToken(model), jobs, study(weight_decay=0.1), sources={})
    for k, job in enumerate(jobs):
        for name, (a, b) in tensors(seen[0], k).items():
            rank = job.rank_map.ranks[name]
            assert (a[:, rank:] == 0).all()
            assert (b[rank:] == 0).all()
            assert rank == 0 or (b[:rank] != 0).all()


class _Kept:
    save = None


def test_heads_are_trained_for_each_map(tmp_path) -> None:
    model = MODELS["bert"]
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    task = LastToken(model, head=("classifier",))
    maps = [rank_map("bert", 0), RankMap(dict.fromkeys(SPACES["bert"].shapes, 0))]
    jobs = [job_for(ranks, seed=k, data_seed=0, number=k) for k, ranks in enumerate(maps)]
    config = study(max_grad_norm=1.0)
    together = fine_tune(task, jobs, config, sources={})
    for k, job in enumerate(jobs):
        (alone,) = fine_tune(task, [job], config, sources={})
        assert alone.losses == pytest.approx(together[k].losses, rel=1e-4)
        head = saved(alone, tmp_path / str(k))["base_model.model.classifier.weight"]
        assert not torch.equal(head, before["classifier.weight"])
        with loaded(model, tmp_path / str(k)):
            found = task.evaluate("validation")[0].values["log-likelihood"]
        assert found == pytest.approx(alone.evaluation.values["log-likelihood"], abs=1e-5)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_dropout_is_each_maps_own() -> None:
    model = MODELS["bert"]
    ranks = rank_map("bert", 0)
    wet, dry = ({"dropout": p} for p in (0.5, 0.0))
    config = study(steps=5)
    jobs = [job_for(ranks, seed=1, data_seed=0, settings=each, number=k) for k, each in enumerate([wet, dry, wet])]
    one, two, three = (outcome.losses for outcome in fine_tune(LastToken(model), jobs, config, sources={}))
    assert one == pytest.approx(three, rel=1e-5)  # the same seed draws the same masks
    assert one != pytest.approx(two, rel=1e-5)
    (alone,) = fine_tune(LastToken(model), jobs[1:2], config, sources={})
    assert alone.losses == pytest.approx(two, rel=1e-5)
    # Nor does it draw anything where another map alone is adapted.
    upper = job_for(from_layer("bert", 1), seed=4, data_seed=0, settings=wet, number=3)
    beside = fine_tune(LastToken(model), [upper, jobs[0]], config, sources={})[0]
    (alone,) = fine_tune(LastToken(model), [upper], config, sources={})
    assert alone.losses == pytest.approx(beside.losses, rel=1e-5)


def test_time_is_shared_among_the_maps_of_a_pack_and_limited(monkeypatch) -> None:
    """Each map has a share of the steps that it took part in; a clock that ticks once a reading."""
    clock = [0.0]

    def tick() -> float:
        clock[0] += 1
        return clock[0]

    monkeypatch.setattr("rank_search.training.pack_training.time.perf_counter", tick)
    jobs = jobs_of("bert", 2)
    outcomes = fine_tune(LastToken(MODELS["bert"]), jobs, study(steps=4), sources={})
    assert [outcome.seconds for outcome in outcomes] == [5 / 2] * 2  # four steps and one evaluation, of two maps
    limited = study_config(training={"steps": 4, "precision": "float32"}, search={"trial_minutes": 0.75 / 60})
    for failed in fine_tune(LastToken(MODELS["bert"]), jobs_of("bert", 2), limited, sources={}):
        assert isinstance(failed, TrainingFailed)
        assert failed.kind == "time limit"
        assert "by step 2 of 4" in str(failed)


def test_mean_loss_of_the_maps_is_reported_and_nan_when_none_is_left() -> None:
    task, jobs = LastToken(MODELS["bert"]), jobs_of("bert", 2)
    reports: list[float] = []
    outcomes = fine_tune(task, jobs, study(steps=3), sources={}, on_step=lambda _step, loss: reports.append(loss))
    both = zip(*(outcome.losses for outcome in outcomes), strict=True)
    assert reports == pytest.approx([sum(losses) / 2 for losses in both])
    reports.clear()
    task.poison = {2: 0}
    fine_tune(task, jobs[:1], study(steps=3), sources={}, on_step=lambda _step, loss: reports.append(loss))
    assert len(reports) == 2
    assert math.isnan(reports[1])


class WithTexts(LastToken):
    """Batches of several lengths, the longest of which is the third."""

    def training_batches(self, steps, seed, *, augmented=False):
        for step, batch in enumerate(super().training_batches(steps, seed), start=1):
            yield {**batch, "input_ids": batch["input_ids"].repeat(1, 3 if step == 3 else 1)}

    def batch_shapes(self, batch):
        return {"": [BatchShape(*batch["input_ids"].shape)]}


def test_trial_steps_are_timed_and_leave_the_model_as_it_was(monkeypatch) -> None:
    model, lengths = MODELS["bert"], []
    task = WithTexts(model)
    loss = task.loss

    def watched(batch, copies=1):
        lengths.append(batch["input_ids"].shape[1])
        return loss(batch, copies)

    monkeypatch.setattr(task, "loss", watched)
    types = [type(module) for module in model.modules()]
    timing = time_steps(task, jobs_of("bert", 2), study(steps=5), 2)
    assert lengths == [21, 7, 7]  # the longest texts first, not timed
    assert len(timing.seconds) == len(timing.flops) == 2
    assert min(timing.seconds) > 0
    one, two = (time_steps(task, jobs_of("bert", maps), study(steps=5), 1) for maps in (1, 2))
    assert two.activations > 1.2 * one.activations > 0
    assert two.flops[0] > 1.5 * one.flops[0]
    assert [type(module) for module in model.modules()] == types
