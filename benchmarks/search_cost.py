"""What a proposal costs, and how long a search takes to a given front: ours, and what a user would script.

    python benchmarks/search_cost.py            # all of it: about 45 minutes on two cores
    python benchmarks/search_cost.py --rounds 1 --trials 4 --steps 4 --small    # a quick look

On the demo task: (a) PEFT with the Trainer of transformers, one proposal after another; (b) PEFT in a bare torch
loop; (c) ours, one map at a time; (d) ours, packed. All four train the same maps for as many steps of as many
pairs, in bf16, and are scored by the same evaluation in float32. Then (e): the time until a search has the
hypervolume that Optuna's TPE with (a) reaches, for ours; ours has as many trials as it likes, but no more time than (a)
took.

(a) draws other batches for each proposal, and so its front is in part made of lucky draws: the same map, trained
again, scores lower. There are therefore two goals: the hypervolume of (a)'s own scores, and that of the same maps,
each trained again on the batches that all maps of our study share.

Whatever is finished is kept in search_cost.json, and the same command goes on from there.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import matplotlib as mpl
import numpy as np
import optuna
import rivals
import torch
import transformers
import typer

from rank_search.app.loading import new_metadata
from rank_search.config import StudyConfig, load_config
from rank_search.core.candidate import Candidate
from rank_search.core.job import FineTuned, Job, no_callback
from rank_search.core.pareto import hypervolume
from rank_search.core.seeds import batch_seed
from rank_search.executors.local import LocalExecutor
from rank_search.models.modules import build_space
from rank_search.search.loop import Search
from rank_search.search.schedule import Findings, Schedule
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study
from rank_search.study.metadata import environment
from rank_search.study.storage import create_study
from rank_search.tasks.load import load_task
from rank_search.training.cost import matmul_peak
from rank_search.training.memory import retain_freed_memory
from rank_search.training.trainer import time_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rank_search.core.ranks import RankMap
    from rank_search.core.space import Space

mpl.use("Agg")
OUT = Path("reports/benchmarks")
PACK = 4
RETURNING = "MALLOC_MMAP_THRESHOLD_"  # glibc's: tensors of this many bytes lie in mappings of their own
SCRIPTED = "a: Optuna TPE and Trainer"
OURS = "ours"


class Bench:
    """The demo task, and a fine-tune of one map by each of the four."""

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self.task: Any = load_task(config)
        self.space = build_space(self.task.backbone, config)
        self.executor = LocalExecutor(config, self.task, self.space)
        self._rivals: Any = None

    @contextmanager
    def with_rivals(self) -> Iterator[None]:
        """Starts the process in which (a) and (b) train."""
        with get_context("spawn").Pool(1, rivals.begin, (self.config.model_dump(),)) as self._rivals:
            yield

    def rival(self, rival: rivals.Rival, rank_map: RankMap, seed: int) -> tuple[float, float, float]:
        """(a) or (b): seconds of training, seconds of evaluation, score."""
        found: tuple[float, float, float] = self._rivals.apply(rivals.fine_tune, (rival, dict(rank_map.ranks), seed))
        return found

    def ours(self, maps: list[RankMap], seed: int) -> tuple[float, float]:
        """(c) and (d): seconds of training and of evaluation, a map."""
        moments: list[float] = []
        jobs = [Job(Candidate(rank_map), seed + k, data_seed=seed) for k, rank_map in enumerate(maps)]
        started = time.perf_counter()
        outcomes = self.executor.train(jobs, lambda _steps, _loss: moments.append(time.perf_counter()))
        finished = time.perf_counter()
        if not all(isinstance(outcome, FineTuned) for outcome in outcomes):
            raise RuntimeError(f"a fine-tune failed: {outcomes}")
        return (moments[-1] - started) / len(maps), (finished - moments[-1]) / len(maps)


def drawn(space: Space, seed: int) -> RankMap:
    """A map as a sampler draws its first ones: each layer's rank by chance."""
    draw = random.Random(seed)
    return space.rank_map({name: draw.randrange(len(space.ladder)) for name in space.dimensions})


def throughput(bench: Bench, rounds: int) -> dict[str, Any]:
    """Seconds a proposal of (a) to (d), in turns, so that a slow minute of the machine meets them all."""
    seconds: dict[str, list[tuple[float, float]]] = {"a": [], "b": [], "c": [], "d": []}
    for i in range(rounds):
        maps = [drawn(bench.space, PACK * i + k) for k in range(PACK)]
        seconds["a"].append(bench.rival("trainer", maps[0], i)[:2])
        seconds["b"].append(bench.rival("loop", maps[0], i)[:2])
        seconds["c"].append(bench.ours(maps[:1], i))
        seconds["d"].append(bench.ours(maps, i))
        print(i, {name: [round(value, 2) for value in parts[-1]] for name, parts in seconds.items()}, flush=True)
    train = {name: statistics.median(parts[0] for parts in found) for name, found in seconds.items()}
    whole = {name: statistics.median(sum(parts) for parts in found) for name, found in seconds.items()}
    peak = matmul_peak(torch.device("cpu"), torch.bfloat16)
    reached = {}
    for pack in (1, PACK):
        jobs = [Job(Candidate(bench.space.uniform(bench.space.ladder[-1])), k, 0) for k in range(pack)]
        timing = time_steps(bench.task, jobs, bench.config, 12)
        reached[f"pack {pack}"] = {
            "flops_rate": sum(timing.flops) / sum(timing.seconds),
            "share_of_peak": sum(timing.flops) / sum(timing.seconds) / peak,
            "activation_bytes": timing.activations,
        }
    return {
        "seconds": seconds,
        "training_speed_against_b": {name: train["b"] / taken for name, taken in train.items()},
        "proposal_speed_against_b": {name: whole["b"] / taken for name, taken in whole.items()},
        "matmul_peak": peak,
        "reached": reached,
    }


def peak_memory(pack: int, overrides: list[str], *, kept: bool) -> dict[str, int]:
    """Peak resident memory of a process of its own that trains a pack, and what its arithmetic says, in bytes.

    With ``kept``, freed memory is kept as in a study; without, glibc gives each freed tensor back at once.
    """
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import search_cost as this;"
        "print(json.dumps(this.timed(int(sys.argv[2]), sys.argv[3:])))"
    )
    line = [sys.executable, "-c", code, str(Path(__file__).parent), str(pack), *overrides]
    environment = {**os.environ, **({} if kept else {RETURNING: "65536"})}
    ran = subprocess.run(line, capture_output=True, text=True, check=True, env=environment)  # noqa: S603  # our own code
    found: dict[str, int] = json.loads(ran.stdout)
    return found


def timed(pack: int, overrides: list[str]) -> dict[str, int]:
    """Takes a few steps of a pack of the largest map."""
    transformers.logging.set_verbosity_error()
    if RETURNING not in os.environ:
        retain_freed_memory()
    config = load_config(Path("configs/demo.yaml"), overrides)
    task = load_task(config)
    space = build_space(task.backbone, config)
    jobs = [Job(Candidate(space.uniform(space.ladder[-1])), k, 0) for k in range(pack)]
    timing = time_steps(task, jobs, config, 4)
    return {
        "peak": high_water(),
        "activations": timing.activations,
        # Weights, gradients and AdamW's two moments, all float32.
        "optimiser": 4 * 4 * space.most_parameters * pack,
    }


def high_water() -> int:
    """Peak resident memory of this process; ru_maxrss would begin with that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def memory(overrides: list[str]) -> dict[str, Any]:
    """Whether eight maps take no more than one, and eight times a map's activations and optimiser state.

    Measured twice: as a study runs, with the holes that freed tensors leave in the heap of glibc, and without them.
    """
    found = {}
    for name, kept in (("as a study runs", True), ("freed memory returned", False)):
        one, eight = (peak_memory(pack, overrides, kept=kept) for pack in (1, 8))
        allowed = one["peak"] + 8 * (one["activations"] + one["optimiser"])
        found[name] = {"pack 1": one, "pack 8": eight, "allowed": allowed, "within": eight["peak"] <= allowed}
    return found


Curve = list[tuple[float, float]]  # (seconds since the start, hypervolume)


def volume(points: list[tuple[float, float]], corner: np.ndarray) -> float:
    """Hypervolume of (score, parameters)."""
    return hypervolume(np.array([[-score, parameters] for score, parameters in points]), corner)


def scripted(bench: Bench, trials: int, corner: np.ndarray, seed: int) -> tuple[Curve, list[RankMap]]:
    """Plain Optuna TPE with (a), what a user would script: its curve, and the maps of its front."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.TPESampler(seed=seed))
    points: list[tuple[float, float]] = []
    maps: list[RankMap] = []
    curve: Curve = []
    started = time.perf_counter()
    for number in range(trials):
        trial = study.ask()
        top = len(bench.space.ladder) - 1
        rank_map = bench.space.rank_map({name: trial.suggest_int(name, 0, top) for name in bench.space.dimensions})
        parameters = bench.space.parameters(rank_map)
        score = bench.rival("trainer", rank_map, seed + number)[2] if parameters else -corner[0]
        study.tell(trial, [score, parameters])
        points.append((score, parameters))
        maps.append(rank_map)
        curve.append((time.perf_counter() - started, volume(points, corner)))
        print("scripted", number, curve[-1], flush=True)
    return curve, [maps[trial.number] for trial in study.best_trials]


def trained_again(bench: Bench, maps: list[RankMap], corner: np.ndarray) -> float:
    """Hypervolume of maps, each trained as a trial of our study would be: on the batches that all share."""
    seed = batch_seed(bench.config.seed)
    outcomes = [bench.executor.train([Job(Candidate(ranks), k, seed)], no_callback)[0] for k, ranks in enumerate(maps)]
    scores = [outcome.evaluation.score for outcome in outcomes if isinstance(outcome, FineTuned)]
    return volume(
        [(score, bench.space.parameters(rank_map)) for score, rank_map in zip(scores, maps, strict=True)], corner
    )


class Watch:
    """Notes the hypervolume after each trial, and ends a search that has what it was to reach, or had its time."""

    def __init__(self, name: str, corner: np.ndarray, goal: float, limit: float) -> None:
        self._name = name
        self._corner = corner
        self._goal = goal
        self._limit = limit
        self._started = time.perf_counter()
        self.curve: Curve = []

    def stage(self, what: str, done: int, total: int) -> None:
        """Not of interest here."""

    def pack_started(self, numbers: Any, parameters: int) -> None:
        """Not of interest here."""

    def step(self, numbers: Any, steps: int, loss: float) -> None:
        """Not of interest here."""

    def waiting(self, why: str) -> None:
        """Not of interest here."""

    def trial_finished(self, study: optuna.Study, number: int) -> None:
        """Looks at the front."""
        complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        found = volume([(trial.values[0], trial.values[1]) for trial in complete], self._corner)
        self.curve.append((time.perf_counter() - self._started, found))
        print(self._name, number, self.curve[-1], flush=True)
        if found >= self._goal or self.curve[-1][0] > self._limit:
            raise Ended


class Ended(BaseException):
    """A search has the hypervolume that it was to reach, or had its time."""


def searched(bench: Bench, corner: np.ndarray, goal: float, limit: float) -> Curve:
    """Our own search, with as many trials as it likes, until it has the goal's hypervolume or had its time."""
    settings = bench.config.model_dump()
    alone = {"trials": bench.space.size, "repeats": 0, "baselines": (), "sampler": "tpe", "pack": 1}
    settings["search"] = {**settings["search"], **alone}
    config = StudyConfig.model_validate(settings)
    executor = LocalExecutor(config, bench.task, bench.space)
    with tempfile.TemporaryDirectory() as place:
        folder = StudyFolder(Path(place) / "study")
        folder.path.mkdir()
        watch = Watch(OURS, corner, goal, limit)
        metadata = new_metadata(config, bench.space, bench.task)
        study = Study.start(create_study(folder, None), metadata, folder, None)
        pack = int(config.search.pack)
        with suppress(Ended):
            front = partial(front_of, study)
            findings = Findings(front, list, lambda: None, lambda: None)
            schedule = Schedule(config, bench.space, lambda _: {}, findings)
            Search(study, config, executor, schedule, watch, pack, sole_driver=True).run()
    return watch.curve


def front_of(study: Study) -> dict[int, float]:
    """The front, as sure as it looks: nothing is repeated here, and no adapter is asked for."""
    return {trial.number: 1.0 for trial in study.optuna_study.best_trials}


def reached_after(curve: Curve, goal: float) -> float | None:
    """Seconds until a curve has the goal; None where it never has."""
    return next((seconds for seconds, found in curve if found >= goal), None)


def compared(curves: dict[str, Curve], goal: float) -> dict[str, Any]:
    """Seconds of each search until the goal, and how many times less than (a)'s that is.

    (a)'s are those until it has the last map of its front, whichever scores the goal is made of.
    """
    seconds = {name: reached_after(curve, goal) for name, curve in curves.items()}
    seconds[SCRIPTED] = script = reached_after(curves[SCRIPTED], curves[SCRIPTED][-1][1])
    return {"hypervolume": goal, "seconds": seconds, "times_faster": {n: s and script / s for n, s in seconds.items()}}


def draw(curves: dict[str, Curve], goals: dict[str, float], path: Path) -> None:
    """Hypervolume over time."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, curve in curves.items():
        axes.step([0, *(s for s, _ in curve)], [0, *(v for _, v in curve)], where="post", label=name)
    for (name, goal), style in zip(goals.items(), (":", "--"), strict=True):
        axes.axhline(goal, color="grey", linestyle=style, linewidth=1, label=f"goal: {name}")
    axes.set(xlabel="seconds, everything included", ylabel="hypervolume (score × parameters)")
    axes.legend()
    figure.savefig(path, dpi=150)


class Kept:
    """The parts of the result that are finished, in a file that the same command goes on from."""

    def __init__(self, path: Path, command: str, environment: dict[str, Any]) -> None:
        self._path = path
        self.content: dict[str, Any] = {"command": command, "environment": environment}
        if path.is_file() and (earlier := json.loads(path.read_text())).get("command") == command:
            self.content = earlier

    def part(self, name: str, find: Callable[[], Any]) -> Any:
        """A part of the result, found now unless it is kept."""
        if name not in self.content:
            self.content[name] = json.loads(json.dumps(find()))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self.content, indent=2) + "\n")
        return self.content[name]


def main(
    rounds: Annotated[int, typer.Option(help="Turns of (a) to (d).")] = 3,
    trials: Annotated[int, typer.Option(help="Proposals of (a), whose hypervolume is the goal.")] = 24,
    steps: Annotated[int | None, typer.Option(help="Training steps; by default the demo's.")] = None,
    small: Annotated[
        bool, typer.Option("--small", help="A sixth of the validation split, a quarter of a batch.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = OUT,
) -> None:
    """Runs it all, and writes search_cost.json and search_cost.png."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    overrides = [f"training.steps={steps}"] if steps else []
    overrides += ["task.validation_size=80", "training.batch_size=4"] if small else []
    bench = Bench(load_config(Path("configs/demo.yaml"), [*overrides, f"search.trials={trials}"]))
    command = f"python benchmarks/search_cost.py --rounds {rounds} --trials {trials}"
    command += (f" --steps {steps}" if steps else "") + (" --small" if small else "")
    kept = Kept(out / "search_cost.json", command, environment("cpu"))
    kept.part("memory", partial(memory, overrides))
    (untrained,) = bench.task.evaluate("validation")
    corner = np.array([-untrained.score, bench.space.reference_parameters])
    kept.part("reference_point", lambda: [untrained.score, corner[1]])

    def of_the_script() -> dict[str, Any]:
        curve, maps = scripted(bench, trials, corner, seed=0)
        return {
            "curve": curve,
            "goals": {"own scores": curve[-1][1], "trained again": trained_again(bench, maps, corner)},
        }

    with bench.with_rivals():
        kept.part("throughput", partial(throughput, bench, rounds))
        script = kept.part(SCRIPTED, of_the_script)
    curves: dict[str, Curve] = {SCRIPTED: script["curve"]}
    goal, limit = max(script["goals"].values()), script["curve"][-1][0]
    curves[OURS] = kept.part(OURS, partial(searched, bench, corner, goal, limit))
    found = {name: compared(curves, goal) for name, goal in script["goals"].items()}
    kept.part("time to hypervolume", lambda: found)
    draw(curves, script["goals"], out / "search_cost.png")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    typer.run(main)
