"""What every executor promises."""

import dataclasses

import pytest

from rank_search.core.errors import OutOfService, TrainingFailed
from rank_search.core.job import FineTuned
from rank_search.executors.local import LocalExecutor
from rank_search.executors.protocol import Pack
from tests.classifier import config
from tests.executors.conftest import all_of, on_ray, pack

MANY = 200  # steps, of a training that takes a second


@pytest.fixture(scope="module")
def ray_executor(place, loaded, cluster):
    """One for all of these tests: each of its workers takes long to import its libraries."""
    executor = on_ray(place, loaded, LocalExecutor(config(place), *loaded))
    yield executor
    executor.close()


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def executor(request, local):
    return local if request.param == "local" else request.getfixturevalue("ray_executor")


def test_results_are_those_of_this_process(executor, local, loaded) -> None:
    """Worked out elsewhere they are the same, but for what other sums of floats come to."""
    one, other = pack(loaded[1], 1, 4), pack(loaded[1], 2)
    found = all_of(executor, one, other)
    expected = [local.train(given.jobs, given.on_step) for given in (one, other)]
    for outcomes, same in zip(found, expected, strict=True):
        for outcome, like in zip(outcomes, same, strict=True):
            assert isinstance(outcome, FineTuned)
            assert outcome.losses == pytest.approx(like.losses, rel=1e-4)
            assert outcome.evaluation.score == pytest.approx(like.evaluation.score, abs=0.1)
            assert outcome.seconds > 0


def test_adapters_can_be_saved_here_scored_and_cut(executor, loaded, tmp_path) -> None:
    ((outcome,),) = all_of(executor, pack(loaded[1], 2))
    outcome.save_adapter(tmp_path / "adapter")
    again = executor.evaluate(tmp_path / "adapter", "validation")
    assert again.score == pytest.approx(outcome.evaluation.score, abs=1e-6)
    assert executor.evaluate(None, "test").metric == outcome.evaluation.metric
    assert all(sigmas for sigmas in executor.spectrum(tmp_path / "adapter").values())
    ((cut,),) = all_of(executor, pack(loaded[1], 1, recipe="truncate", source=tmp_path / "adapter"))
    assert cut.losses == ()
    assert set(cut.rank_map.ranks.values()) == {1}


def test_room_is_taken_by_packs_and_given_back(executor, loaded) -> None:
    room = executor.free_slots
    assert room >= 1
    executor.submit(pack(loaded[1], 1))
    assert executor.free_slots == room - 1
    done = []
    while not done:
        done = executor.wait()
    assert executor.free_slots == room


def test_map_that_can_not_be_trained_fails_alone(executor, loaded) -> None:
    """A rank that no module of this model has."""
    wrong = dataclasses.replace(loaded[1].uniform(1), ranks={"no.such.module": 1})
    good = pack(loaded[1], 1)
    bad = Pack([good.jobs[0], dataclasses.replace(good.jobs[0].at(wrong), number=1)])
    ((fine, failed),) = all_of(executor, bad)
    assert isinstance(fine, FineTuned)
    assert isinstance(failed, TrainingFailed)
    assert failed.kind == "error"
    assert "has no attribute `no`" in str(failed)


def test_steps_are_reported(executor, loaded) -> None:
    reports: list[tuple[int, float]] = []
    # So many that the driver reads its mail meanwhile; what comes last may never be read.
    all_of(executor, pack(loaded[1], 1, on_step=lambda *step: reports.append(step), settings={"steps": MANY}))
    steps, losses = zip(*reports, strict=True)
    assert list(steps) == sorted(steps)
    assert steps[-1] <= MANY
    assert all(0 < loss < 10 for loss in losses)


def test_what_no_trial_can_help_stops_the_run(executor, place, loaded, local, monkeypatch, request) -> None:
    """Here a full disk, where an adapter is to be put; there a base model that is gone."""
    if executor is local:
        full = OSError(28, "No space left on device", "/full")
        monkeypatch.setattr(local, "_run_recipe", lambda *_: (_ for _ in ()).throw(full))
        broken = local
    else:
        executor.wait()  # while nothing is to be done it stops its workers, whose places the others take
        broken = on_ray(place, loaded, local, model={"source": str(place / "gone")})
    with pytest.raises(OutOfService, match=r"disk is full|can't load"):
        all_of(broken, pack(loaded[1], 1))
    broken.close()
