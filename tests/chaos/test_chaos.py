"""Four workers under two drivers on one database, all of which are killed again and again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
import pytest
import ray
from sqlalchemy import create_engine, text

from rank_search.analysis.front import front, hypervolume, reference_point
from rank_search.analysis.maps import maps_table
from rank_search.core.job import Job, Rungs
from rank_search.report.page import write_report
from rank_search.search.loop import data_seed, map_seed
from rank_search.study.storage import StudyFolder, create_study, load_study
from tests.bench import SPACE, Landscape, record
from tests.chaos.driver import NOISE, REPEATS, TRIALS
from tests.conftest import ROOT
from tests.postgres import Postgres

EVENTS = 50
LIMIT = 1800.0  # seconds, after which something hangs


@pytest.fixture
def address() -> Iterator[str]:
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@dataclass
class Chaos:
    """Two drivers that are started again whenever they end before the study does, and what befalls them."""

    server: Postgres
    folder: StudyFolder
    arguments: list[str]
    log: Path
    draw: random.Random = field(default_factory=lambda: random.Random(7))
    drivers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def run(self) -> None:
        self.drivers = [self.started(), self.started()]
        end = time.monotonic() + LIMIT
        while any(driver.poll() != 0 for driver in self.drivers):
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(self.draw.uniform(0.3, 1.5) * (0.2 if self.behind() > 0.1 else 1))
            self.drivers = [driver if driver.poll() in {None, 0} else self.started() for driver in self.drivers]
            if len(self.events) < EVENTS and self.behind() > -0.1:
                event = self.draw.choice([*[self.kill_worker] * 8, *[self.kill_driver] * 2, *self.others])
                if event():
                    self.events.append(event.__name__)

    def behind(self) -> float:
        """How much further the study is than what befalls it, so that this spreads over all of it on any machine."""
        return len([*(self.folder.path / "results").glob("*.json")]) / TRIALS - len(self.events) / EVENTS

    @property
    def others(self):
        return [self.interrupt_driver, self.pause_driver, self.kill_database, self.stop_database]

    def started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "tests.chaos.driver", *self.arguments]
            return subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )

    def kill_worker(self) -> bool:
        found = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if (process.cmdline() or [""])[0].startswith("ray::Pretended"):
                    found.append(process)
        return self.signalled(found, signal.SIGKILL)

    def kill_driver(self) -> bool:
        return self.signalled(self.living, signal.SIGKILL)

    def interrupt_driver(self) -> bool:
        return self.signalled(self.living, signal.SIGINT)

    def pause_driver(self) -> bool:
        living = self.living
        if not living:
            return False
        driver = self.draw.choice(living)
        driver.send_signal(signal.SIGSTOP)
        time.sleep(2)
        driver.send_signal(signal.SIGCONT)
        return True

    def kill_database(self) -> bool:
        self.server.kill()
        time.sleep(self.draw.uniform(0, 1))
        self.server.start()
        return True

    def stop_database(self) -> bool:
        self.server.stop()
        time.sleep(self.draw.uniform(0, 3))
        self.server.start()
        return True

    @property
    def living(self) -> list[subprocess.Popen[bytes]]:
        return [driver for driver in self.drivers if driver.poll() is None]

    def signalled(self, processes, number: signal.Signals) -> bool:
        if processes:
            self.draw.choice(processes).send_signal(number)
        return bool(processes)


def rows_of(url: str) -> pd.DataFrame:
    """The trials as the tables of the database have them."""
    engine = create_engine(url)
    with engine.connect() as connection:
        trials = {
            of.trial_id: {"number": of.number, "state": of.state.name if hasattr(of.state, "name") else of.state}
            for of in connection.execute(text("SELECT trial_id, number, state FROM trials"))
        }
        for of in connection.execute(text("SELECT trial_id, objective, value FROM trial_values")):
            trials[of.trial_id][("score", "trainable_parameters")[of.objective]] = of.value
        for of in connection.execute(text("SELECT trial_id, param_name, param_value FROM trial_params")):
            trials[of.trial_id].setdefault("params", {})[of.param_name] = int(of.param_value)
        for of in connection.execute(text("SELECT trial_id, key, value_json FROM trial_user_attributes")):
            trials[of.trial_id][of.key] = json.loads(of.value_json)
    engine.dispose()
    return pd.DataFrame(trials.values()).sort_values("number").reset_index(drop=True)


def test_nothing_is_lost_and_nothing_done_twice_whatever_is_killed(tmp_path, server, database, address) -> None:
    folder = StudyFolder(tmp_path / "small")
    folder.path.mkdir()
    record().write(create_study(folder, database))
    chaos = Chaos(server, folder, [str(folder.path), database, address], tmp_path / "log")
    chaos.run()
    assert len(chaos.events) == EVENTS
    print({name: chaos.events.count(name) for name in sorted({*chaos.events})})

    rows = rows_of(database)
    assert rows["state"].tolist() == ["COMPLETE"] * TRIALS, rows[rows["state"] != "COMPLETE"].to_string()
    assert rows["number"].tolist() == list(range(TRIALS))
    rounds = rows.get("round", pd.Series(0, index=rows.index)).fillna(0).astype(int)
    first = rows[rounds == 0]
    assert len(first) == TRIALS - REPEATS
    assert len({json.dumps(params, sort_keys=True) for params in first["params"]}) == len(first)
    for of in rows.assign(round=rounds).itertuples():
        job = Job(SPACE.rank_map(of.params), map_seed(0, of.number), data_seed(0, of.round), number=of.number)
        assert of.score == pytest.approx(Landscape(noise=NOISE).train_one(job, Rungs()).evaluation.score)
        assert of.trainable_parameters == SPACE.parameters(job.rank_map)
        assert of.seed == job.seed
        assert folder.read_result(of.number)["losses"] == [1.0, 0.5]

    study, kept = load_study(folder, database)
    summary = write_report(study, kept, folder, tmp_path / "report")
    ranks = [SPACE.rank_map(of) for of in rows["params"]]
    settings = [{}] * len(rows)
    table = rows.assign(kind=rows["kind"].fillna("search"), baseline=None, round=rounds, settings=settings)
    table = table.assign(ranks=[of.ranks for of in ranks], key=[of.key for of in ranks])
    metric = kept.config["task"]["metric"]
    maps = maps_table(table, lambda number: folder.read_result(number)["values"][metric])
    written = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert written["front"] == front(maps)["number"].tolist()
    assert written["hypervolume"] == pytest.approx(hypervolume(maps, reference_point(maps, SPACE.reference_parameters)))
    assert len(summary.trials) == TRIALS
    kept_adapters = {*folder.adapters()}
    assert set(front(maps)["number"]) - set(rows[rows["trainable_parameters"] == 0]["number"]) <= kept_adapters
