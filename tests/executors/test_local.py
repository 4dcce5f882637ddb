import pytest
import torch

from rank_search.core.errors import InputError, TrainingFailed
from rank_search.core.job import FineTuned, Job, no_callback
from rank_search.executors import local
from rank_search.executors.local import LocalExecutor
from rank_search.training.pack_training import StepTiming
from rank_search.training.trainer import time_steps
from tests.bench import study_config
from tests.jobs import job_for
from tests.training.test_trainer import TRAINING


def executor(task, space, **changes) -> LocalExecutor:
    return LocalExecutor(study_config(training={**TRAINING, "steps": 3}, **changes), task, space)


def jobs(space, count: int, **options) -> list[Job]:
    return [job_for(space.uniform(1 + k % 2), seed=k, data_seed=0, number=k, **options) for k in range(count)]


def test_pack_that_does_not_fit_is_halved(small_task, small_space, monkeypatch) -> None:
    tried = []

    def scarce(task, jobs, *arguments, **options):
        tried.append([job.number for job in jobs])
        if len(jobs) > 2:
            raise torch.OutOfMemoryError("no memory")
        return train(task, jobs, *arguments, **options)

    train = local.fine_tune
    monkeypatch.setattr(local, "fine_tune", scarce)
    outcomes = executor(small_task, small_space).train(jobs(small_space, 5), no_callback)
    assert tried == [[0, 1, 2, 3, 4], [0, 1], [2, 3, 4], [2], [3, 4]]
    assert all(isinstance(outcome, FineTuned) for outcome in outcomes)


def test_map_that_raises_fails_alone(small_task, small_space, monkeypatch) -> None:
    def broken(task, jobs, *arguments, **options):
        if any(job.number == 2 for job in jobs):
            raise ValueError("of this map alone")
        return train(task, jobs, *arguments, **options)

    train = local.fine_tune
    monkeypatch.setattr(local, "fine_tune", broken)
    outcomes = executor(small_task, small_space).train(jobs(small_space, 4), no_callback)
    assert [isinstance(outcome, FineTuned) for outcome in outcomes] == [True, True, False, True]
    assert isinstance(outcomes[2], TrainingFailed)
    assert str(outcomes[2]) == "ValueError: of this map alone"


def test_recipe_that_leaves_its_hooks_behind_spoils_no_other_map(small_task, small_space, monkeypatch) -> None:
    """As PEFT's EVA does where a model's layers do not suit it."""

    def broken(backbone, *_):
        for module in backbone.modules():
            module.register_forward_hook(lambda *_: pytest.fail("a hook was left behind"))
        backbone.requires_grad_(True).train()
        raise ValueError("EVA can't")

    trainer = executor(small_task, small_space)
    (before,) = trainer.train(jobs(small_space, 1), no_callback)
    monkeypatch.setattr(local, "eva_init", broken)
    (failed,) = trainer.train(jobs(small_space, 1, recipe="eva"), no_callback)
    assert str(failed) == "ValueError: EVA can't"
    (after,) = trainer.train(jobs(small_space, 1), no_callback)
    assert after.losses == before.losses
    assert not small_task.backbone.training
    assert not any(weight.requires_grad for weight in small_task.backbone.parameters())


def test_jobs_on_other_batches_are_packed_apart(small_task, small_space, monkeypatch) -> None:
    packs = []

    def watched(task, jobs, *arguments, **options):
        packs.append([job.number for job in jobs])
        return train(task, jobs, *arguments, **options)

    train = local.fine_tune
    monkeypatch.setattr(local, "fine_tune", watched)
    mixed = [job_for(small_space.uniform(1), 0, data_seed=k % 2, number=k) for k in range(4)]
    outcomes = executor(small_task, small_space).train(mixed, no_callback)
    assert packs == [[0, 2], [1, 3]]
    assert outcomes[0].losses == pytest.approx(outcomes[2].losses)
    assert outcomes[0].losses[0] != pytest.approx(outcomes[1].losses[0], rel=1e-6)


@pytest.mark.parametrize(
    ("seconds", "bytes_", "most", "expected"),
    [
        ({1: 1.0, 2: 1.2, 4: 2.0, 8: 3.9}, 1, 16, 4),  # eight cost as much a map as four
        ({1: 1.0, 2: 1.99}, 1, 16, 1),
        ({1: 1.0, 2: 1.0, 4: 1.0}, 1, 5, 4),
        ({1: 1.0, 2: 1.0}, 300, 16, 2),  # four would take more than is left
        ({1: 1.0}, 1, 1, 1),
        ({1: 1.0, 2: RuntimeError("can't allocate memory")}, 1, 16, 1),
        ({1: TrainingFailed("the loss is nan")}, 1, 16, 1),
    ],
)
def test_pack_is_chosen_by_time_and_memory(
    small_task, small_space, monkeypatch, seconds, bytes_, most, expected
) -> None:
    def timed(task, jobs, config, steps):
        found = seconds[len(jobs)]
        if isinstance(found, Exception):
            raise found
        return StepTiming((found,), (1.0,), bytes_)

    monkeypatch.setattr(local, "time_steps", timed)
    monkeypatch.setattr(local, "available_memory", lambda device: 1000)
    assert executor(small_task, small_space).choose_pack(most) == expected


@pytest.mark.parametrize("init", ["kaiming", "eva"])
def test_pack_is_chosen_by_real_steps(small_task, small_space, init) -> None:
    modules = [type(module) for module in small_task.backbone.modules()]
    made = executor(small_task, small_space, adapter={"init": {"method": init}})
    assert made.choose_pack(4) in (1, 2, 4)
    assert [type(module) for module in small_task.backbone.modules()] == modules


def test_timing_of_a_diverging_study_says_why(small_task, small_space) -> None:
    config = study_config(training={**TRAINING, "learning_rate": 1e30})
    with pytest.raises(TrainingFailed, match=r"the loss is .* lower the learning rate"):
        time_steps(small_task, jobs(small_space, 1), config, 6)


def test_model_that_mixes_the_rows_of_maps_is_refused_a_pack(small_task, small_space, monkeypatch) -> None:
    """As DeBERTa does, whose layers project one table of positions for all rows."""
    made = executor(small_task, small_space, search={"pack": 2})
    made.check_packs()
    layer = small_task.backbone.encoder.layer[0]
    whole = layer.forward

    def with_positions(hidden, *arguments, **options):
        layer.attention.self.query(hidden[:1])
        return whole(hidden, *arguments, **options)

    monkeypatch.setattr(layer, "forward", with_positions)
    with pytest.raises(InputError, match=r"search\.pack: this model does not keep several maps apart .* write 1"):
        made.check_packs()
    (alone,) = made.train(jobs(small_space, 1), no_callback)
    assert isinstance(alone, FineTuned)


def test_what_comes_before_a_training_counts_as_its_time(small_task, small_space, monkeypatch) -> None:
    clock = [0.0]

    def slow(*arguments):
        clock[0] += 100
        return found(*arguments)

    found = local.eva_init
    monkeypatch.setattr(local, "eva_init", slow)
    monkeypatch.setattr(local.time, "perf_counter", lambda: clock[0])
    outcomes = executor(small_task, small_space).train(jobs(small_space, 2, recipe="eva"), no_callback)
    assert [outcome.seconds for outcome in outcomes] == [100, 100]
