"""How far one study goes: workers, the driver's own time for a trial, and the time to ask as trials add up.

    python benchmarks/scale.py workers     # two Ray workers of one core against one, on the same trials of the demo
    python benchmarks/scale.py overhead    # a trial's time beside training, with 1 and 16 workers that only sleep
    python benchmarks/scale.py ask         # seconds to ask after 100, 1,000 and 10,000 trials of 168 dimensions
    python benchmarks/scale.py driver      # seconds of the driver for each trial of such a study, its proposal left out
    python benchmarks/scale.py study       # opening, front and report of a study of as many
    python benchmarks/scale.py simulate    # 256 GPUs on paper, with the driver's seconds as measured
    python benchmarks/scale.py report      # writes reports/scale.md

Each writes its numbers beside the others' into reports/benchmarks/scale.json, with machine and versions. Each is to run
alone.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import ray
import typer
from fleet import Fleet, simulated
from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models as tables
from optuna.trial import TrialState
from pages import rendered
from sqlalchemy import create_engine, insert

from rank_search.analysis.front import front, hypervolume, reference_point
from rank_search.analysis.maps import study_maps
from rank_search.app.loading import load_study_task
from rank_search.config import StudyConfig, load_config
from rank_search.core.candidate import Candidate
from rank_search.core.evaluation import Evaluation
from rank_search.core.job import FineTuned, Job
from rank_search.core.ranks import Shape
from rank_search.core.space import Space
from rank_search.executors.local import LocalExecutor
from rank_search.executors.payload import picklable
from rank_search.executors.protocol import Pack, Serial, train_packs
from rank_search.executors.ray_cluster import RayExecutor
from rank_search.executors.ray_worker import Assignment
from rank_search.report.page import write_report
from rank_search.search.proposals.samplers import DistinctSampler, distributions, sampler_maker
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.metadata import environment
from rank_search.study.storage import create_study

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.bench import SPACE, Bench, Landscape, metadata, study_config

OUT = Path("reports/benchmarks/scale.json")
SLEEP = 1.0  # seconds of a pretended training
SIZES = (100, 1_000, 10_000)
SAMPLERS = ("random", "nsga2", "tpe", "nehvi")
LAYERS, PARTS = 24, ("q", "k", "v", "o", "up", "gate", "down")  # 168 modules, a dimension each

app = typer.Typer(help=__doc__, add_completion=False)


def publish(name: str, found: dict[str, Any]) -> None:
    """Puts numbers beside those of the other parts."""
    kept = json.loads(OUT.read_text()) if OUT.is_file() else {}
    command = f"python benchmarks/scale.py {name}"
    kept[name] = {"command": command, **found, "environment": environment("cpu")}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(kept, indent=1) + "\n")
    print(json.dumps(found, indent=1))


@contextmanager
def cluster(cpus: int) -> Iterator[None]:
    """Ray on this machine, which may pretend to have more cores."""
    ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@app.command()
def workers(packs: int = 6, steps: int = 10, rounds: int = 3) -> None:
    """Seconds of the same packs by one worker and by two, in turns; models are loaded before."""
    file = Path("configs/demo.yaml")
    changes = [f"training.steps={steps}", "task.validation_size=200", "executor.kind=ray"]
    config = load_config(file, changes)
    task, space = load_study_task(config)
    assignment = Assignment(config, space, task.data_fingerprint, task.fingerprint, str(Path.cwd()), 1)
    local = LocalExecutor(config, task, space)
    given = [Pack([Job(Candidate(space.uniform(4)), seed=k, data_seed=0, number=k)]) for k in range(packs)]
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with cluster(2):
        executors = {}
        for count in seconds:
            # Fractions of a core, as both executors' workers stay; at work are those of one executor at a time.
            settings = config.executor.model_copy(update={"workers": count, "resources": {"cpu": 0.5}})
            executors[count] = RayExecutor(settings, assignment, local)
            list(train_packs(executors[count], given[:count]))
        for _ in range(rounds):
            for count, executor in executors.items():
                started = time.perf_counter()
                list(train_packs(executor, given))
                seconds[count].append(round(time.perf_counter() - started, 2))
                print(count, seconds[count][-1], flush=True)
        for executor in executors.values():
            executor.close()
    ratio = float(np.median(seconds[1]) / np.median(seconds[2]))
    publish("workers", {"packs": packs, "steps": steps, "seconds": seconds, "times_faster": round(ratio, 2)})


class Sleeper:
    """A worker that scores maps by a formula, after a second."""

    def __init__(self, _assignment: Assignment) -> None:
        pass

    def train(self, jobs: Any, connection: Any, adapters: Any) -> Any:
        """See `rank_search.executors.ray_worker.Worker.train`."""
        time.sleep(SLEEP)
        return [picklable(outcome) for outcome in Landscape().train(jobs, connection.report)]


@app.command()
def overhead(trials: int = 96) -> None:
    """Seconds of the driver for each trial: what the study takes longer than its trainings, by one worker and by 16."""
    found = {}
    for count in (1, 16):
        with tempfile.TemporaryDirectory() as place, cluster(count):
            folder = StudyFolder(Path(place) / "small")
            folder.path.mkdir()
            config: StudyConfig = study_config(executor={"kind": "ray", "workers": count})
            executor = RayExecutor(config.executor, Assignment(config, SPACE, "", "", ".", 1), None, Sleeper)  # type: ignore[arg-type]
            many = trials if count > 1 else trials // 6
            started = time.perf_counter()
            Bench(folder).search(many, executor, baselines=[], repeats=0, sampler="random", sole_driver=True)
            wall = time.perf_counter() - started
            executor.close()
        ideal = many * SLEEP / count
        found[count] = {
            "trials": many,
            "seconds": round(wall, 1),
            "seconds_if_trainings_were_all": round(ideal, 1),
            "driver_seconds_a_trial": round((wall - ideal) / many, 3),
            "utilisation": round(ideal / wall, 3),
        }
    publish("overhead", {"sleep": SLEEP, "workers": found})


def large_space() -> Space:
    """A decoder of 24 layers, each module by itself."""
    shapes = {f"model.layers.{i}.{part}": Shape(1024, 1024) for i in range(LAYERS) for part in PARTS}
    return Space(shapes, {name: (name,) for name in shapes}, (0, 2, 4, 8, 16))


def filled(folder: StudyFolder, space: Space, trials: int) -> None:
    """A study of many finished trials, its rows put straight into Optuna's tables."""
    folder.path.mkdir(parents=True)
    study = create_study(folder, None)
    metadata(space).write(study)
    folder.claim(metadata(space).identity)
    draw = np.random.default_rng(0)
    weights = draw.random(len(space.dimensions)) / 100
    laws = {name: distribution_to_json(law) for name, law in distributions(space).items()}
    top, now = len(space.ladder) - 1, datetime.now()  # noqa: DTZ005  # as Optuna writes it
    rows: dict[Any, list[dict[str, Any]]] = {
        table: []
        for table in (tables.TrialModel, tables.TrialParamModel, tables.TrialValueModel, tables.TrialUserAttributeModel)
    }
    finite = tables.TrialValueModel.TrialValueType.FINITE
    for number in range(trials):
        share = draw.random()
        proposal = {name: int(draw.binomial(top, share)) for name in space.dimensions}
        score = float(weights @ np.sqrt([space.ladder[index] for index in proposal.values()]) + draw.normal(0, 0.01))
        price = float(space.parameters(space.rank_map(proposal)))
        trial = {"trial_id": number + 1}
        times = {"datetime_start": now, "datetime_complete": now}
        study_of = {"study_id": study._study_id, "state": TrialState.COMPLETE, "number": number}
        rows[tables.TrialModel].append({**trial, **study_of, **times})
        rows[tables.TrialParamModel] += [
            {**trial, "param_name": name, "param_value": float(index), "distribution_json": laws[name]}
            for name, index in proposal.items()
        ]
        rows[tables.TrialValueModel] += [
            {**trial, "objective": i, "value": value, "value_type": finite} for i, value in enumerate((score, price))
        ]
        rows[tables.TrialUserAttributeModel] += [
            {**trial, "key": key, "value_json": json.dumps(value)}
            for key, value in {"seed": number, "seconds": 600.0, "score_se": 0.01, "attempts": 1}.items()
        ]
    engine = create_engine(folder.url)
    with engine.begin() as connection:
        for table, content in rows.items():
            connection.execute(insert(table), content)
    engine.dispose()


@contextmanager
def study_of(trials: int) -> Iterator[tuple[StudyFolder, Space]]:
    """Such a study."""
    with tempfile.TemporaryDirectory() as place:
        folder, space = StudyFolder(Path(place) / "small"), large_space()
        filled(folder, space, trials)
        yield folder, space


@app.command()
def ask(longest: int = 10_000) -> None:
    """Seconds of a proposal by each sampler, once the study is open."""
    found: dict[str, dict[int, float]] = {kind: {} for kind in SAMPLERS}
    for trials in (size for size in SIZES if size <= longest):
        with study_of(trials) as (folder, space):
            study = create_study(folder, None)
            study.get_trials(deepcopy=False)
            for kind in SAMPLERS:
                sampler = DistinctSampler(sampler_maker(kind, space), 0, space)
                study.sampler = sampler
                trial = study.ask()
                if kind == "nehvi":  # BoTorch takes seconds to import, once
                    importlib.import_module("rank_search.search.proposals.cost_aware")
                started = time.perf_counter()
                sampler.sample_relative(study, trial._cached_frozen_trial, distributions(space))
                found[kind][trials] = round(time.perf_counter() - started, 2)
                study.tell(trial, state=TrialState.FAIL)
                print(kind, trials, found[kind][trials], flush=True)
    publish("ask", {"dimensions": len(large_space().dimensions), "seconds": found})


@app.command()
def driver(longest: int = 10_000, trials: int = 20) -> None:
    """Seconds of the driver for a trial: from one training to the next, of a study with random proposals."""
    found = {}
    for before in (size for size in SIZES if size <= longest):
        moments: list[float] = []

        def instantly(jobs: Any, _on_step: Any, moments: list[float] = moments) -> list[FineTuned]:
            moments.append(time.perf_counter())
            return [FineTuned(Evaluation("ndcg@10", {"ndcg@10": [0.4, 0.6]}), (1.0,), 0.0, None) for _ in jobs]

        with study_of(before) as (folder, space):
            options = {"baselines": [], "repeats": 0, "sampler": "random", "sole_driver": True}
            Bench(folder).search(before + trials, Serial(instantly), space, **options)
        found[before] = round(float(np.median(np.diff(moments))), 3)
        print(before, found[before], flush=True)
    publish("driver", {"dimensions": len(large_space().dimensions), "seconds_a_trial": found})


@app.command()
def simulate() -> None:
    """256 GPUs, trials of 20 minutes ± 30 %, a node lost once an hour: by each sampler's seconds, as measured."""
    kept = json.loads(OUT.read_text())
    most = max(kept["driver"]["seconds_a_trial"], key=int)
    # A proposal by chance is in the driver's time.
    own = kept["driver"]["seconds_a_trial"][most] - kept["ask"]["seconds"]["random"][most]
    fleets = {"no driver's time": Fleet(0.0)}
    for kind, seconds in kept["ask"]["seconds"].items():
        fleets[f"{kind}, after {most} trials"] = Fleet(own + seconds[most])
    slowest = max(fleets.values(), key=lambda fleet: fleet.driver)
    feeds = int(slowest.minutes * 60 / slowest.driver)
    found = {
        name: {"driver_seconds_a_trial": round(fleet.driver, 2), **simulated(fleet)} for name, fleet in fleets.items()
    }
    publish("simulate", {"fleet": vars(Fleet(0.0)), "found": found, "most_gpus_of_the_slowest": feeds})


@app.command()
def report() -> None:
    """Writes what was measured as a page."""
    out = Path("reports/scale.md")
    out.write_text(rendered("scale.md.j2", **json.loads(OUT.read_text())))
    print(out)


@app.command()
def study(longest: int = 10_000) -> None:
    """Seconds to open a study, and for its table of maps, front and report."""
    found = {}
    for trials in (size for size in SIZES if size <= longest):
        with study_of(trials) as (folder, space):
            moments = [time.perf_counter()]
            opened = Study.open(str(folder.path))
            opened.trials()
            moments.append(time.perf_counter())
            maps = study_maps(opened)
            moments.append(time.perf_counter())
            front(maps), hypervolume(maps, reference_point(maps, space.reference_parameters))
            moments.append(time.perf_counter())
            write_report(opened, folder.path / "report")
            moments.append(time.perf_counter())
        names = ("open", "maps", "front", "report")
        found[trials] = {name: round(taken, 2) for name, taken in zip(names, np.diff(moments), strict=True)}
        print(trials, found[trials], flush=True)
    publish("study", {"dimensions": len(large_space().dimensions), "seconds": found})


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    app()
