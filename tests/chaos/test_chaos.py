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
from rank_search.core.seeds import adapter_seed, batch_seed
from rank_search.report.page import write_report
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.storage import create_study
from tests.bench import SPACE, Landscape, metadata
from tests.chaos.driver import NOISE, REPEATS, TRIALS
from tests.conftest import ROOT
from tests.jobs import job_for
from tests.postgres import Postgres

pytestmark = pytest.mark.chaos
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
            row.trial_id: {"number": row.number, "state": row.state.name if hasattr(row.state, "name") else row.state}
            for row in connection.execute(text("SELECT trial_id, number, state FROM trials"))
        }
        for row in connection.execute(text("SELECT trial_id, objective, value FROM trial_values")):
            trials[row.trial_id][("score", "trainable_parameters")[row.objective]] = row.value
        for row in connection.execute(text("SELECT trial_id, param_name, param_value FROM trial_params")):
            trials[row.trial_id].setdefault("params", {})[row.param_name] = int(row.param_value)
        for row in connection.execute(text("SELECT trial_id, key, value_json FROM trial_user_attributes")):
            trials[row.trial_id][row.key] = json.loads(row.value_json)
    engine.dispose()
    return pd.DataFrame(trials.values()).sort_values("number").reset_index(drop=True)


def test_nothing_is_lost_and_nothing_done_twice_whatever_is_killed(tmp_path, server, database, address) -> None:
    folder = StudyFolder(tmp_path / "small")
    folder.path.mkdir()
    metadata().write(create_study(folder, database))
    chaos = Chaos(server, folder, [str(folder.path), database, address], tmp_path / "log")
    chaos.run()
    assert len(chaos.events) == EVENTS
    print({name: chaos.events.count(name) for name in sorted({*chaos.events})})

    rows = rows_of(database)
    assert rows["state"].tolist() == ["COMPLETE"] * TRIALS, rows[rows["state"] != "COMPLETE"].to_string()
    assert rows["number"].tolist() == list(range(TRIALS))
    rounds = rows.get("batch_order", pd.Series(0, index=rows.index)).fillna(0).astype(int)
    first = rows[rounds == 0]
    assert len(first) == TRIALS - REPEATS
    assert len({json.dumps(params, sort_keys=True) for params in first["params"]}) == len(first)
    for row in rows.assign(batch_order=rounds).itertuples():
        job = job_for(
            SPACE.rank_map(row.params),
            adapter_seed(0, row.batch_order),
            batch_seed(0, row.batch_order),
            number=row.number,
        )
        assert row.score == pytest.approx(Landscape(noise=NOISE).train_one(job).evaluation.score)
        assert row.trainable_parameters == SPACE.parameters(job.rank_map)
        assert row.seed == job.seed
        assert folder.read_result(row.number)["losses"] == [1.0, 0.5]

    study = Study.find(folder, database)
    summary = write_report(study, tmp_path / "report")
    ranks = [SPACE.rank_map(params) for params in rows["params"]]
    settings = [{}] * len(rows)
    table = rows.assign(kind=rows["kind"].fillna("search"), in_space=True, batch_order=rounds, settings=settings)
    keys = [rank_map.key for rank_map in ranks]
    table = table.assign(ranks=[rank_map.ranks for rank_map in ranks], key=keys, candidate=keys, recipe="scratch")
    maps = maps_table(table, study.example_scores)
    written = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert written["front"] == front(maps)["number"].tolist()
    assert written["hypervolume"] == pytest.approx(hypervolume(maps, reference_point(maps, SPACE.reference_parameters)))
    assert len(summary.trials) == TRIALS
    kept_adapters = {*folder.adapters()}
    assert set(front(maps)["number"]) - set(rows[rows["trainable_parameters"] == 0]["number"]) <= kept_adapters
