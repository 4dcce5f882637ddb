"""Adapters that come about otherwise than by training a given map afresh: on a small model, for the whole executor."""

import dataclasses

import pytest
import torch

from rank_search.core.candidate import Candidate
from rank_search.core.errors import TrainingFailed
from rank_search.core.job import FineTuned, no_callback
from rank_search.core.ranks import RankMap
from rank_search.executors.local import LocalExecutor
from tests.bench import study_config
from tests.jobs import job_for

pytestmark = pytest.mark.training

CONFIG = study_config(training={"steps": 24, "precision": "float32", "batch_size": 4, "learning_rate": 1e-2})


@pytest.fixture
def executor(small_task, small_space):
    return LocalExecutor(CONFIG, small_task, small_space)


def made(executor, *jobs) -> list[FineTuned]:
    return executor.train(jobs, no_callback)


def weights(task) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in task.backbone.state_dict().items()}


@pytest.fixture
def large(executor, small_space, tmp_path):
    """A trained adapter of rank 4, with its score."""
    (outcome,) = made(executor, job_for(small_space.uniform(4), 0, 0))
    outcome.save_adapter(tmp_path / "large")
    return tmp_path / "large", outcome.evaluation


def test_truncation_to_all_ranks_is_the_adapter_itself(executor, small_space, large) -> None:
    folder, evaluation = large
    (outcome,) = made(executor, job_for(small_space.uniform(4), 0, 0, recipe="truncate", source=folder))
    assert outcome.evaluation.score == pytest.approx(evaluation.score, abs=1e-5)
    assert outcome.losses == ()


def test_truncations_are_scored_side_by_side_as_saved(executor, small_space, large, tmp_path) -> None:
    folder, evaluation = large
    first = next(iter(small_space.shapes))
    maps = [small_space.uniform(1), RankMap({**small_space.uniform(2).ranks, first: 0})]
    outcomes = made(executor, *(job_for(ranks, 0, 0, recipe="truncate", source=folder) for ranks in maps))
    assert outcomes[0].evaluation.outputs != evaluation.outputs
    for i, (outcome, ranks) in enumerate(zip(outcomes, maps, strict=True)):
        assert outcome.rank_map == ranks
        outcome.save_adapter(tmp_path / str(i))
        again = executor.evaluate(tmp_path / str(i), "validation")
        assert again.score == pytest.approx(outcome.evaluation.score, abs=1e-6)


def test_what_is_truncated_is_trained_first_where_it_is_not_on_disk(executor, small_space, large) -> None:
    """On fresh seeds, and once for all truncations of it."""
    first = Candidate(small_space.uniform(4))
    maps = [small_space.uniform(1), small_space.uniform(2)]
    cut = made(executor, *(job_for(ranks, 0, 0, recipe="truncate", large=first) for ranks in maps))
    of_folder = made(executor, *(job_for(ranks, 0, 0, recipe="truncate", source=large[0]) for ranks in maps))
    for one, other in zip(cut, of_folder, strict=True):
        assert one.evaluation.score == pytest.approx(other.evaluation.score, abs=1e-5)
    (elsewhere,) = made(executor, job_for(maps[0], 1, 1, recipe="truncate", large=first))
    assert elsewhere.evaluation.values != cut[0].evaluation.values
    (nothing,) = made(executor, job_for(maps[0], 0, 0, recipe="truncate"))
    assert "the adapter that it truncates is not on record" in str(nothing)


def test_a_truncation_is_trained_on_for_its_own_steps(executor, small_space, large) -> None:
    ranks = small_space.uniform(1)
    job = job_for(ranks, 0, 0, recipe="recover", source=large[0], settings={"steps": 9})
    recovered, cut = made(executor, job, job_for(ranks, 0, 0, recipe="truncate", source=large[0]))
    assert (len(recovered.losses), len(cut.losses)) == (9, 0)
    assert recovered.rank_map in (None, ranks)
    assert recovered.evaluation.values != cut.evaluation.values
    (scratch,) = made(executor, job_for(ranks, 0, 0, settings={"steps": 9}))
    assert recovered.losses[0] < scratch.losses[0]  # it starts from what the large training has learned


def test_spectrum_names_every_adapted_module(executor, small_space, large) -> None:
    values = executor.spectrum(large[0])
    assert values.keys() == small_space.shapes.keys()
    assert all(list(sigmas) == sorted(sigmas, reverse=True) and len(sigmas) == 4 for sigmas in values.values())


@pytest.mark.parametrize("recipe", ["eva", "adalora"])
def test_ranks_are_shared_out_anew_trained_and_saved(executor, small_task, small_space, recipe, tmp_path) -> None:
    before = weights(small_task)
    (outcome,) = made(executor, job_for(small_space.uniform(2), 0, 0, recipe=recipe))
    assert isinstance(outcome, FineTuned), outcome
    ranks = outcome.rank_map.ranks
    assert ranks.keys() == small_space.shapes.keys()
    assert len(set(ranks.values())) > 1
    assert sum(ranks.values()) == 2 * len(ranks)
    assert max(ranks.values()) <= 4
    assert sum(outcome.losses[-8:]) < sum(outcome.losses[:8])
    outcome.save_adapter(tmp_path / "adapter")
    again = executor.evaluate(tmp_path / "adapter", "validation")
    assert again.score == pytest.approx(outcome.evaluation.score, abs=1e-6)
    after = small_task.backbone.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_recipes_of_one_pack_are_trained_apart(executor, small_space, large) -> None:
    jobs = [
        job_for(small_space.uniform(2), 0, 0),
        job_for(small_space.uniform(2), 0, 0, recipe="eva"),
        job_for(small_space.uniform(2), 0, 0, recipe="truncate", source=large[0]),
        job_for(small_space.uniform(2), 0, 0, recipe="adalora"),
    ]
    together = made(executor, *jobs)
    alone = [made(executor, job)[0] for job in jobs]
    for one, other in zip(together, alone, strict=True):
        assert one.rank_map == other.rank_map
        assert one.evaluation.score == pytest.approx(other.evaluation.score, abs=1e-4)
    assert len({outcome.evaluation.score for outcome in together}) == 4


def test_adalora_needs_a_few_steps(small_task, small_space) -> None:
    short = LocalExecutor(study_config(training={"steps": 3}), small_task, small_space)
    (outcome,) = made(short, job_for(small_space.uniform(1), 0, 0, recipe="adalora"))
    assert isinstance(outcome, TrainingFailed)
    assert "AdaLoRA needs 4 steps or more" in str(outcome)


def test_a_job_is_scored_on_its_split(executor, small_task, small_space) -> None:
    job = job_for(small_space.uniform(1), 0, 0)
    validation, test = made(executor, job, dataclasses.replace(job, split="test"))
    metric = validation.evaluation.metric
    assert len(validation.evaluation.values[metric]) == len(small_task.evaluate("validation")[0].values[metric])
    assert len(test.evaluation.values[metric]) == len(small_task.evaluate("test")[0].values[metric])
    assert validation.losses == test.losses
    (untrained,) = made(executor, job_for(small_space.uniform(0), 0, 0, split="test"))
    assert untrained.evaluation.values == small_task.evaluate("test")[0].values
