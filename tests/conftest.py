"""Small random models, a small task on them, and the command line as a user calls it."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import sqlalchemy
from filelock import FileLock

from rank_search.cli import main as cli
from tests.postgres import Postgres

if TYPE_CHECKING:  # pytest-xdist's main process, which runs no test, imports this file too
    from tests.bench import Bench

ROOT = Path(__file__).parent.parent

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in a background shell; what tests interrupt would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("unhurried", deadline=None)  # other work on the machine is no failure
hypothesis.settings.load_profile("unhurried")

# Settings that cut the demo short.
SMALL = [
    *("--set", "training.steps=4"),
    *("--set", "training.batch_size=8"),
    *("--set", "task.query_length=16"),
    *("--set", "task.document_length=32"),
    *("--set", "task.validation_size=40"),
    *("--set", "task.selection_size=0"),
    *("--set", "task.test_size=20"),
    *("--set", "search.pack=1"),
    *("--set", "search.repeats=0"),
    *("--set", "search.baselines=[]"),
    *("--set", "search.tune_uniform=[]"),
    *("--set", "search.verdict_seeds=0"),
]


# Tests that use one of these fixtures have the marker of what it needs.
MARKERS = {"demo": "training", "browser": "browser", "server": "postgres", "cluster": "slow"}


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what -m does not name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in MARKERS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKERS[fixture])


def missing(what: str) -> None:
    """Skips a test for want of something; in CI, where all is to be tested, fails it."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@pytest.fixture(autouse=True, scope="session")
def disks_need_not_be_waited_for():
    """A test survives no power cut, so SQLite need not wait for the disk after each of its many small commits."""
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", _trust_the_system)
    yield
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", _trust_the_system)


def _trust_the_system(connection, _record) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(autouse=True, scope="session")
def quiet_libraries():
    import optuna
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """A folder with a small classifier and its texts."""
    from tests import classifier

    return classifier.write(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A PostgreSQL server of the tests' own."""
    if not Postgres.is_here():
        missing("PostgreSQL is not here; apt-get install postgresql")
    server = Postgres()
    server.make()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def database(server, request, monkeypatch) -> Iterator[str]:
    """URL of an empty PostgreSQL database; what was opened of it is closed in the end."""
    from optuna.storages import RDBStorage

    opened: list[RDBStorage] = []
    make = RDBStorage.__init__

    def watched(self, *arguments, **options):
        opened.append(self)
        make(self, *arguments, **options)

    monkeypatch.setattr(RDBStorage, "__init__", watched)
    yield server.database(f"test_{zlib.crc32(request.node.nodeid.encode())}")
    for storage in opened:
        storage.engine.dispose()


@pytest.fixture(scope="session", autouse=True)
def large_files_are_parsed_once():
    from tests import parsed_once  # noqa: F401


@pytest.fixture(scope="session")
def small_task():
    """Retrieval on a random two-layer BERT, with the embedded model's tokenizer."""
    from tests.small_models import retrieval_task

    return retrieval_task()


@pytest.fixture(scope="session")
def small_space(small_task):
    from rank_search.models.modules import build_space
    from tests.bench import study_config

    return build_space(small_task.backbone, study_config())


SURROUNDINGS = {"COLUMNS": "120"}


@dataclass(frozen=True)
class Command:
    """``python -m rank_search`` in a folder of its own."""

    folder: Path

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command line in this process: a new one takes longer to import its libraries than most commands."""
        with pytest.MonkeyPatch.context() as patched:
            patched.chdir(self.folder)
            for name, value in SURROUNDINGS.items():
                patched.setenv(name, value)
            return subprocess.CompletedProcess(arguments, *in_process(*arguments))

    def apart(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Runs it in a process of its own, as users do."""
        return subprocess.run(
            self.line(*arguments),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def line(self, *arguments: str) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "rank_search", *arguments]

    def environment(self) -> dict[str, str]:
        return {**os.environ, **SURROUNDINGS}

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}


@pytest.fixture
def bench(tmp_path) -> Bench:
    from rank_search.study.folder import StudyFolder
    from tests.bench import Bench

    (tmp_path / "small").mkdir()
    return Bench(StudyFolder(tmp_path / "small"))


@pytest.fixture
def command(tmp_path) -> Command:
    return Command(tmp_path)


def in_process(*arguments: str) -> tuple[int, str, str]:
    """Exit status of a command line that is run in this process, what it printed, and what it said on stderr."""
    out, said = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stderr(said), redirect_stdout(out):
        patched.setattr(sys, "argv", ["rank_search", *arguments])
        patched.setattr(cli.signal, "signal", lambda *_: None)
        try:
            cli.main()
        except SystemExit as ended:
            return int(ended.code or 0), out.getvalue(), said.getvalue()
    return 0, out.getvalue(), said.getvalue()


def small_run(trials: int) -> list[str]:
    """Arguments of a demo that is cut short."""
    return ["run", "--set", f"search.trials={trials}", *SMALL]


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Command:
    """A small demo of 8 trials, run in one sitting in an empty folder."""

    def run(folder: Path) -> None:
        result = Command(folder)(*small_run(8))
        assert result.returncode == 0, result.stderr

    return Command(made_once(tmp_path_factory, "demo", run))


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A copy of a folder that one of the test processes makes for all of them."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"made-{name}"
    with FileLock(f"{shared}.lock"):
        if not shared.is_dir():
            in_work = Path(f"{shared}.in-work")
            in_work.mkdir(exist_ok=True)
            make(in_work)
            in_work.rename(shared)
    return shutil.copytree(shared, tmp_path_factory.mktemp(name) / name)
