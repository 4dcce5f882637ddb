"""Each trained trial is a run of each tracker, read back by the tracker's own code."""

import json
import sqlite3
from pathlib import Path

import pytest
from optuna.trial import TrialState

from rank_search.errors import InputError
from rank_search.search.storage import StudyFolder
from rank_search.search.tracking import Trackers, check_installed
from tests.bench import SPACE, Bench, Landscape

NAMES = ("tensorboard", "trackio", "wandb", "mlflow")


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DIR", "MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.setenv(name, "")  # so that what is set meanwhile is undone
        monkeypatch.delenv(name)
    folder = StudyFolder(tmp_path / "studies" / "small")
    folder.path.mkdir(parents=True)
    bench = Bench(folder)
    bench.search(4, Landscape(), baselines=[], repeats=0)
    return bench


def trackers(bench: Bench, *names: str, told=print) -> Trackers:
    return Trackers(names, bench.study(), bench.folder, SPACE, told)


def of_tensorboard(place: Path) -> dict[str, tuple[list[float], float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in place.glob("tensorboard/*"):
        events = EventAccumulator(str(folder))
        events.Reload()
        found[folder.name] = [of.value for of in events.Scalars("loss")], events.Scalars("score")[0].value
    return found


def of_mlflow(place: Path) -> dict[str, tuple[list[float], float]]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    return {
        run.info.run_name: (
            [of.value for of in client.get_metric_history(run.info.run_id, "loss")],
            run.data.metrics["score"],
        )
        for run in client.search_runs([experiment.experiment_id])
    }


def of_trackio(place: Path) -> dict[str, tuple[list[float], float]]:
    with sqlite3.connect(place / "trackio" / "small.db") as database:
        rows = database.execute("SELECT run_name, metrics FROM metrics ORDER BY step, id").fetchall()
    found: dict[str, tuple[list[float], float]] = {}
    for run, text in rows:
        metrics = json.loads(text)
        losses, score = found.get(run, ([], float("nan")))
        found[run] = [*losses, *([metrics["loss"]] if "loss" in metrics else [])], metrics.get("score", score)
    return found


def of_wandb(place: Path) -> dict[str, tuple[list[float], float]]:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # its own process has then written all
    found = {}
    for path in place.glob("wandb/offline-run-*/*.wandb"):
        records = [Record.FromString(data) for data in leveldb_records(path.read_bytes()[7:])]
        (name,) = {of.run.display_name for of in records if of.run.display_name}
        items = [(of.key or of.nested_key[0], of.value_json) for record in records for of in record.history.item]
        losses = [json.loads(value) for key, value in items if key == "loss"]
        found[name] = losses, next(json.loads(value) for key, value in items if key == "score")
    return found


def leveldb_records(data: bytes) -> list[bytes]:
    """Records of a log in LevelDB's format, in which W&B writes: blocks of 32 KiB of pieces with 7 bytes of header."""
    found, at, piece = [], 0, b""
    while at + 7 <= len(data):
        if (at + 7) % 2**15 > 2**15 - 7:  # no room for a header, W&B's own of 7 bytes counted
            at += 2**15 - (at + 7) % 2**15
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        piece += data[at + 7 : at + 7 + length]
        if kind in {1, 4}:  # a whole record, or the last piece of one
            found.append(piece)
            piece = b""
        at += 7 + length
    return found


READERS = {"tensorboard": of_tensorboard, "mlflow": of_mlflow, "trackio": of_trackio, "wandb": of_wandb}


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_has_every_trial(name, bench) -> None:
    """Trackio reads where to write once, when it is imported: no other test may use it in this process."""
    trackers(bench, name).send()
    trials = bench.study().get_trials(deepcopy=False)
    assert len(trials) == 4
    expected = {
        f"trial {of.number}": (bench.folder.read_result(of.number)["losses"], of.values[0])
        for of in trials
        if of.state == TrialState.COMPLETE
    }
    found = READERS[name](bench.folder.path / "trackers")
    assert {run: (pytest.approx(losses), pytest.approx(score)) for run, (losses, score) in expected.items()} == found
    assert {path.name for path in Path.cwd().iterdir()} == {"studies"}, "written outside the study's folder"


def test_nothing_is_sent_twice(bench) -> None:
    trackers(bench, "tensorboard").send()
    before = sorted((bench.folder.path / "trackers").rglob("*"))
    bench.search(5, Landscape(), baselines=[], repeats=0)
    trackers(bench, "tensorboard").send()
    new = set((bench.folder.path / "trackers" / "tensorboard").iterdir()) - set(before)
    assert [path.name for path in new] == ["trial 4"]


def test_a_tracker_that_fails_is_told_of_once_and_gets_the_rest_later(bench, monkeypatch) -> None:
    told: list[str] = []
    failing = trackers(bench, "mlflow", "tensorboard", told=told.append)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://host")
    failing.send()
    failing.send()
    (line,) = told
    assert line.startswith("trackers: mlflow gets no more trials in this run, which goes on (")
    assert "\n" not in line
    assert json.loads((bench.folder.path / "trackers.json").read_text()) == {"mlflow": [], "tensorboard": [0, 1, 2, 3]}
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    trackers(bench, "mlflow", "tensorboard").send()
    assert len(of_mlflow(bench.folder.path / "trackers")) == 4


def test_one_that_is_not_installed_is_named_with_its_extra(monkeypatch) -> None:
    check_installed(NAMES)
    monkeypatch.setattr("rank_search.search.tracking.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"trackers: wandb is not installed; pip install 'rank_search\[wandb\]'"):
        check_installed(["wandb"])


def test_none_is_the_default(bench) -> None:
    trackers(bench).send()
    assert not (bench.folder.path / "trackers.json").exists()
    assert not (bench.folder.path / "trackers").exists()
