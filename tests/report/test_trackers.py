"""Each trained trial is a run of each tracker, read back by the tracker's own code."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from filelock import FileLock

from rank_search.report.trackers import Trackers
from rank_search.study.folder import StudyFolder
from rank_search.study.table import trial_row
from tests.bench import SPACE, Bench, Saving

pytestmark = pytest.mark.slow

SECRET = "QnVsbGZpbmNo"
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
    bench.search(4, Saving(), baselines=["svd"], repeats=0)
    return bench


def trackers(bench: Bench, *names: str, say=print) -> Trackers:
    return Trackers(names, bench.handle(), say)


class Run(NamedTuple):
    """What a tracker has of a trial."""

    losses: list[float]
    score: float
    ranks: dict[str, int]


def ranks_of(config) -> dict[str, int]:
    return {name.removeprefix("rank/"): int(value) for name, value in config.items() if name.startswith("rank/")}


def of_tensorboard(place: Path) -> dict[str, Run]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in place.glob("tensorboard/*"):
        events = EventAccumulator(str(folder))
        events.Reload()
        (config,) = folder.glob("*/hparams.yml")
        losses = [entry.value for entry in events.Scalars("loss")]
        found[folder.name] = Run(losses, events.Scalars("score")[0].value, ranks_of(yaml.safe_load(config.read_text())))
    return found


def of_mlflow(place: Path) -> dict[str, Run]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    found = {}
    for run in client.search_runs([experiment.experiment_id]):
        losses = [entry.value for entry in client.get_metric_history(run.info.run_id, "loss")]
        found[run.info.run_name] = Run(losses, run.data.metrics["score"], ranks_of(run.data.params))
    return found


def of_trackio(place: Path) -> dict[str, Run]:
    with closing(sqlite3.connect(place / "trackio" / "small.db")) as database:
        configs = dict(database.execute("SELECT run_name, config FROM configs"))
        rows = database.execute("SELECT run_name, metrics FROM metrics ORDER BY step, id").fetchall()
    found = {}
    for name, config in configs.items():
        logged = [json.loads(metrics) for run, metrics in rows if run == name]
        (score,) = (entry["score"] for entry in logged if "score" in entry)
        found[name] = Run([entry["loss"] for entry in logged if "loss" in entry], score, ranks_of(json.loads(config)))
    return found


def of_wandb(place: Path) -> dict[str, Run]:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # its own process has then written all
    found = {}
    for path in place.glob("wandb/offline-run-*/*.wandb"):
        records = [Record.FromString(data) for data in leveldb_records(path.read_bytes()[7:])]
        (name,) = {entry.run.display_name for entry in records if entry.run.display_name}
        logged = [
            (entry.key or entry.nested_key[0], entry.value_json) for record in records for entry in record.history.item
        ]
        config = {
            entry.key or entry.nested_key[0]: entry.value_json for record in records for entry in record.config.update
        }
        losses = [json.loads(value) for key, value in logged if key == "loss"]
        score = next(json.loads(value) for key, value in logged if key == "score")
        found[name] = Run(losses, score, ranks_of(config))
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
def test_a_tracker_has_every_trial_and_no_password(name, bench, monkeypatch) -> None:
    """Trackio reads where to write once, when it is imported: no other test may use it in this process."""
    monkeypatch.setattr("sys.argv", ["rank_search", "run", "--storage", f"postgresql+psycopg://me:{SECRET}@host/db"])
    environment = dict(os.environ)
    trackers(bench, name).send()
    assert dict(os.environ) == environment
    rows = [trial_row(trial, SPACE) for trial in bench.handle().trials()]
    assert {"baseline:svd", "baseline:uniform"} <= {row["kind"] for row in rows}
    expected = {
        row["label"]: (
            pytest.approx(bench.folder.read_result(row["number"])["losses"]),
            pytest.approx(row["score"]),
            row["ranks"],
        )
        for row in rows
    }
    assert READERS[name](bench.folder.path / "trackers") == expected
    assert {path.name for path in Path.cwd().iterdir()} == {"studies"}, "written outside the study's folder"
    written = [path for path in Path.cwd().rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


def test_nothing_is_sent_twice(bench) -> None:
    trackers(bench, "tensorboard").send()
    before = set((bench.folder.path / "trackers").rglob("*"))
    trackers(bench, "tensorboard").send()
    assert set((bench.folder.path / "trackers").rglob("*")) == before
    count = len(bench.study().trials)
    bench.search(5, Saving(), baselines=["svd"], repeats=0)
    trackers(bench, "tensorboard").send()
    new = set((bench.folder.path / "trackers" / "tensorboard").iterdir()) - before
    assert [path.name for path in new] == [f"trial {count}"]


def test_one_driver_at_a_time_sends(bench) -> None:
    place = bench.folder.path / "trackers"
    place.mkdir()
    with FileLock(place / "lock"):
        trackers(bench, "tensorboard").send()
    assert not (place / "tensorboard").exists()
    first, second = trackers(bench, "tensorboard"), trackers(bench, "tensorboard")
    first.send()
    sent = set(place.rglob("*"))
    second.send()
    assert set(place.rglob("*")) == sent


@pytest.mark.parametrize("damage", ["", "[]", '{"tensorboard": 3}'])
def test_a_damaged_list_of_what_was_sent_is_made_again(damage, bench) -> None:
    file = bench.folder.path / "trackers.json"
    file.write_text(damage)
    trackers(bench, "tensorboard").send()
    assert json.loads(file.read_text()) == {"tensorboard": [entry.number for entry in bench.study().trials]}


def test_a_damaged_result_keeps_no_other_back(bench) -> None:
    bench.folder.result(1).write_text("{")
    trackers(bench, "tensorboard").send()
    sent = json.loads((bench.folder.path / "trackers.json").read_text())
    assert sent == {"tensorboard": [entry.number for entry in bench.study().trials if entry.number != 1]}


def test_a_run_is_ended_whatever_happens_in_it(bench, monkeypatch) -> None:
    from accelerate.tracking import TensorBoardTracker

    ended = []
    monkeypatch.setattr(TensorBoardTracker, "finish", lambda self: ended.append(self.run_name))
    monkeypatch.setattr(TensorBoardTracker, "log", lambda *_, **__: 1 / 0)
    lines: list[str] = []
    trackers(bench, "tensorboard", say=lines.append).send()
    assert ended == ["trial 0"]
    assert lines == [
        "trackers: tensorboard gets no more trials in this run, which goes on (ZeroDivisionError: division by zero)"
    ]


def test_token_in_a_trackers_complaint_is_masked(bench, monkeypatch) -> None:
    from accelerate.tracking import TensorBoardTracker

    def refuse(*_arguments, **_options):
        raise PermissionError("401 for https://api.host/runs?key=local-4f1c0ffee5ec4e7 (local-4f1c0ffee5ec4e7)")

    monkeypatch.setenv("WANDB_API_KEY", "local-4f1c0ffee5ec4e7")
    monkeypatch.setenv("SOME_TOKEN", "for")  # too short to be looked for in words
    monkeypatch.setattr(TensorBoardTracker, "log", refuse)
    lines: list[str] = []
    trackers(bench, "tensorboard", say=lines.append).send()
    assert lines[0].endswith("(PermissionError: 401 for https://api.host/runs?key=*** (***))")


def test_a_tracker_that_fails_is_named_once_and_gets_the_rest_later(bench, monkeypatch) -> None:
    lines: list[str] = []
    failing = trackers(bench, "mlflow", "tensorboard", say=lines.append)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"nowhere://me:{SECRET}@host")
    failing.send()
    failing.send()
    (line,) = lines
    assert line.startswith("trackers: mlflow gets no more trials in this run, which goes on (")
    assert "\n" not in line
    assert SECRET not in line
    every = [entry.number for entry in bench.study().trials]
    assert json.loads((bench.folder.path / "trackers.json").read_text()) == {"tensorboard": every}
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    trackers(bench, "mlflow", "tensorboard").send()
    assert len(of_mlflow(bench.folder.path / "trackers")) == len(every)


def test_none_is_the_default(bench) -> None:
    trackers(bench).send()
    assert not (bench.folder.path / "trackers.json").exists()
    assert not (bench.folder.path / "trackers").exists()
