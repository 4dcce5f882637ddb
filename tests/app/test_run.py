"""A run from its first check to its last line, with an executor that scores maps by a formula."""

import io
import shutil
from types import SimpleNamespace

import pytest
import yaml
from optuna.trial import TrialState
from rich.console import Console

from rank_search.app import run as runs
from rank_search.app.run import run_study
from rank_search.app.verdict import FreshVerdict
from rank_search.config import ModelConfig
from rank_search.core.errors import InputError, RankSearchError, SearchStopped, TrainingFailed
from rank_search.core.evaluation import Evaluation
from rank_search.core.job import no_callback
from rank_search.core.space import Space
from rank_search.executors.protocol import Serial
from rank_search.models.source import locate
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.leases import Leases
from tests.bench import EMBEDDED, SPACE, Landscape, study_config

pytestmark = pytest.mark.slow

TRIALS = 5  # the uniform maps, and a proposal


class Executor(Serial):
    """Trains by a formula; remembers whether it was checked and closed."""

    def __init__(self, space, wrongs) -> None:
        self.landscape = Landscape(wrongs, weights=Landscape.weights[: len(space.shapes)])
        super().__init__(self.landscape.train)
        self.calls: list[str] = []

    def check_packs(self) -> None:
        self.calls.append("check_packs")

    def choose_pack(self, most: int) -> int:
        self.calls.append("choose_pack")
        return 2

    def close(self) -> None:
        self.calls.append("close")

    def evaluate(self, adapter, split) -> Evaluation:
        return Evaluation("ndcg@10", {"ndcg@10": [0.4, 0.6]})


class Machine:
    """The current folder, and what a run finds there."""

    def __init__(self, monkeypatch) -> None:
        self.task = SimpleNamespace(
            head=(),
            classes=(),
            cut={"queries": (3, 40), "documents": (0, 40)},
            notes=("2 of 40 texts of test are in train too",),
            data_fingerprint="data",
            fingerprint="model",
            size=lambda _split: 10,
            examples=lambda *_: [],
        )
        self.space = SPACE
        self.wrongs: dict[int, object] = {}
        self.executors: list[Executor] = []
        self.loaded = 0
        monkeypatch.setattr(runs, "load_study_task", self._load)
        monkeypatch.setattr(runs, "make_executor", self._executor)
        self.printed = ""
        self.on_end = no_callback

    def run(self, **changes) -> Study | None:
        out = io.StringIO()
        try:
            search = {"trials": TRIALS, "pack": 1, **changes.pop("search", {})}
            console = Console(file=out, width=200)
            return run_study(study_config(search=search, **changes), None, console, self.on_end)
        finally:
            self.printed = out.getvalue()

    @property
    def folder(self) -> StudyFolder:
        return StudyFolder.named("small")

    @property
    def calls(self) -> list[str]:
        return self.executors[-1].calls

    def _load(self, config):
        self.loaded += 1
        return self.task, self.space

    def _executor(self, config, task, space) -> Executor:
        self.executors.append(Executor(space, self.wrongs))
        return self.executors[-1]


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    monkeypatch.chdir(tmp_path)
    return Machine(monkeypatch)


def outcome(study) -> list[tuple]:
    return [(trial.number, trial.state, trial.params, trial.values) for trial in study.optuna_study.trials]


def test_a_run_leaves_trials_and_what_the_verdict_rests_on(machine) -> None:
    study = machine.run(search={"verdict_seeds": 2})
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE] * TRIALS
    comparison = FreshVerdict.of_choice(study, study.config).comparison
    assert study.folder.read_test(comparison.numbers)
    assert len(study.folder.read_confirmations(comparison.chosen.fresh.key)) == 2
    kept = yaml.safe_load((study.folder.path / "study.yaml").read_text())
    assert kept == study_config(search={"trials": TRIALS, "pack": 1, "verdict_seeds": 2}).model_dump(mode="json")
    study.folder.check_owner(study.metadata.identity)
    assert "s since the start of this process" in machine.printed.splitlines()[-1]


def test_texts_that_are_cut_or_in_two_parts_are_told_before_training(machine) -> None:
    machine.run()
    lines = machine.printed.splitlines()
    assert lines[0] == "2 of 40 texts of test are in train too"
    assert lines[1] == "3 of 40 queries are longer than the study file or the model allows, and are cut"
    assert not any("documents" in line for line in lines)


def test_learning_rates_are_searched_before_the_trials_and_told(machine) -> None:
    study = machine.run(search={"tune_uniform": [0.5, 2.0]})
    base = study_config().training.learning_rate
    rates = study.rates
    assert rates is not None
    assert all(trial.candidate.settings["learning_rate"] > 0 for trial in study.trials())
    assert [line for line in machine.printed.splitlines() if line.startswith("Learning rate of uniform rank 1: ")]
    jobs = machine.executors[-1].landscape.jobs
    assert {job.settings["learning_rate"] for job in jobs[:6]} >= {0.5 * base, base, 2 * base}
    again = machine.run(search={"tune_uniform": [0.1]})  # what may change, and comes too late
    assert again.rates == rates


def test_a_study_of_before_goes_on_without_examples_for_the_choice_and_without_tuned_rates(machine) -> None:
    study = machine.run()
    content = dict(study.optuna_study.user_attrs["rank_search"])
    task = {name: value for name, value in content["config"]["task"].items() if name != "selection_size"}
    config = {name: value for name, value in content["config"].items() if name != "choice"}
    study.optuna_study.set_user_attr("rank_search", {**content, "config": {**config, "task": task}})
    after = machine.run(search={"trials": TRIALS + 2, "tune_uniform": [2.0]})
    assert len(after.trials()) == TRIALS + 2
    assert after.config.task.selection_size == 0
    assert after.rates is None


def test_a_finished_study_loads_nothing(machine) -> None:
    first = machine.run(search={"verdict_seeds": 1})
    again = machine.run(search={"verdict_seeds": 1})
    assert machine.printed == "small: all 5 trials are finished; nothing to train\n"
    assert (machine.loaded, len(machine.executors)) == (1, 1)
    assert outcome(again) == outcome(first)


@pytest.mark.parametrize(("search", "trials"), [({"trials": 7}, 7), ({"verdict_seeds": 1}, TRIALS)])
def test_a_larger_budget_goes_on(machine, search, trials) -> None:
    before = outcome(machine.run())
    after = outcome(machine.run(search=search))
    assert after[:TRIALS] == before
    assert len(after) == trials
    assert machine.loaded == 2


def test_what_a_killed_run_left_is_done(machine) -> None:
    """As where it was killed between the search and the test split."""
    study = machine.run()
    (study.folder.path / "test.json").unlink()
    machine.run()
    assert study.folder.read_test(FreshVerdict.of_choice(study, study.config).comparison.numbers)
    assert machine.executors[-1].landscape.jobs == []


def files(machine) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in machine.folder.path.rglob("*") if path.is_file()}


def test_changed_settings_are_refused_before_data_are_read(machine) -> None:
    machine.run()
    before = files(machine)
    with pytest.raises(InputError, match=r"training\.steps: is 4, but the study was started with 3; restore it"):
        machine.run(training={"steps": 4})
    assert machine.loaded == 1
    assert files(machine) == before


def test_a_study_goes_on_with_the_same_data_and_model_elsewhere(machine, tmp_path) -> None:
    """On another machine, or after its files were moved: what counts is what lies there."""
    before = outcome(machine.run(task={"data": "old/pairs.jsonl"}))
    copied = tmp_path / "copied"
    shutil.copytree(locate(ModelConfig(source=EMBEDDED)).path_or_id, copied)
    moved = {"task": {"data": "new/pairs.jsonl"}, "model": {"source": str(copied)}}
    study = machine.run(**moved)
    assert outcome(study) == before
    kept = Study.open("small").config
    assert (kept.task.data.source, kept.model.source) == ("new/pairs.jsonl", str(copied))
    machine.run(**moved)
    assert machine.printed.endswith("nothing to train\n"), "it is not read again once it is known there"
    machine.run(**moved, search={"trials": 6})
    (copied / "tokenizer_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"model\.source: tokenizer_config\.json of the model is not what it was"):
        machine.run(**moved, search={"trials": 7})


@pytest.mark.parametrize(("name", "field"), [("data_fingerprint", "task.data"), ("fingerprint", "model.source")])
def test_changed_data_or_model_are_refused_before_anything_is_written(machine, name, field) -> None:
    machine.run()
    before = files(machine)
    setattr(machine.task, name, "new")
    with pytest.raises(InputError, match=rf"{field}: is 'new', but the study was started with"):
        machine.run(search={"trials": 6})
    assert files(machine) == before
    assert len(machine.executors) == 1


def test_a_wrong_prior_is_refused_before_anything_is_written(machine, tmp_path) -> None:
    with pytest.raises(InputError, match=r"space\.prior: 'absent\.json' can't be read"):
        machine.run(space={"prior": "absent.json"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("search", "calls"),
    [
        ({"pack": 1}, ["close"]),
        ({"pack": 2}, ["check_packs", "close"]),
        ({"pack": "auto"}, ["choose_pack", "close"]),
    ],
)
def test_packs_are_checked_where_they_are_asked_for(machine, search, calls) -> None:
    machine.run(search=search)
    assert machine.calls == calls


def test_workers_are_stopped_whatever_happens(machine) -> None:
    machine.wrongs = {number: TrainingFailed("boom") for number in range(8)}
    with pytest.raises(SearchStopped, match="boom"):
        machine.run(search={"max_failures": 2})
    assert machine.calls == ["close"]


def test_one_driver_at_a_time_keeps_a_sqlite_study(machine) -> None:
    with (
        machine.folder.locked(),
        pytest.raises(RankSearchError, match="another run of this study is at work; wait for it, or stop it"),
    ):
        machine.run()
    assert machine.calls == ["close"]
    assert not (machine.folder.path / "study.db").exists()


def test_an_exhausted_space_is_told(machine) -> None:
    names = list(SPACE.dimensions)[:2]
    shapes = {f"{name}.w": SPACE.shapes[f"{name}.w"] for name in names}
    machine.space = Space(shapes, {name: (f"{name}.w",) for name in names}, (1, 2))
    study = machine.run(search={"trials": 40, "sampler": "grid"})
    assert len(study.trials()) == 4
    assert "every map of the space is trained: 4 trials of 40 asked for" in machine.printed


def other_driver(study, part: str) -> Leases:
    """Another driver, alive, that holds a part of the study."""
    other = Leases(study.lock)
    assert other.acquire_part(study.optuna_study, part)
    return other


def test_another_driver_does_what_comes_after_the_trials(machine) -> None:
    study = machine.run()
    other = other_driver(study, "verdict")
    assert machine.run(search={"trials": 6}) is None
    assert machine.printed.splitlines()[-1] == (
        "all trials are finished; another driver trains for the verdict, and writes the report"
    )
    assert len(study.trials()) == 6
    other.release_part("verdict")
    assert machine.run(search={"trials": 6}) is not None


def test_the_report_is_written_while_no_other_driver_can_write_one(machine) -> None:
    """Two drivers that end at the same time would write the same files."""
    held = []

    def on_end(study: Study) -> None:
        with study.lock.acquired():
            held.append(Leases(study.lock).acquire_part(study.optuna_study, "verdict"))

    machine.on_end = on_end
    machine.run()
    assert held == [False]
    machine.run()  # with nothing left to do
    assert held == [False, True]
