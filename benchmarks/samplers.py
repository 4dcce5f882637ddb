"""Samplers compared on RankBench: how many maps each has to train to have the true front.

    python benchmarks/samplers.py                        # all of it: four hours on one core, three of them for GP
    python benchmarks/samplers.py --seeds 2 --evaluations 12   # a quick look

Every search begins with the uniform maps, as every study does, proposes no map twice, and sees one training of each
map: search k sees those of seed k mod 2, which share their batches. Its hypervolume is counted by expected scores; also
by the means of both trainings, whose best maps are partly the lucky ones, so that even all skill would not find them.
A search ends with the goal, but not before 100 maps. Optuna's GP, which takes long, ends at 150. σ² costs one
training, which every study makes anyway, and which is not counted; shuffled among the modules it says nothing. The same
command goes on with what it has, and runs a search again whose sampler was changed.
"""

from __future__ import annotations

import hashlib
import json
import random
import statistics
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import optuna
import typer
from optuna.samplers import TPESampler

import rank_search
from rank_search.search.proposals.samplers import DistinctSampler, sampler_maker
from rank_search.study.metadata import environment

sys.path.insert(0, str(Path(__file__).parent / "rankbench"))
from rankbench import RankBench

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

OUT = Path("reports/benchmarks")
GOAL = 0.99  # of the true hypervolume
CURVE = 100  # maps that every search trains
LONGEST = {"gp": 150}  # maps at most, where a proposal takes seconds
NAMES = {
    "nehvi": "ours: score modelled, price known",
    "nehvi, prior": "ours, from σ² of one training",
    "nehvi, shuffled": "ours, from σ² of other modules",
    "gp": "Optuna GP",
    "tpe": "Optuna TPE, multivariate",
    "tpe, independent": "Optuna TPE",
    "nsga2": "Optuna NSGA-II",
    "random": "random",
}


class IndependentTPE(TPESampler):
    """Optuna's default, which models one dimension at a time, though it is asked for a whole map."""

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        """Nothing: each dimension is drawn by itself."""
        return {}


def searched(bench: RankBench, kind: str, seed: int, evaluations: int) -> dict[str, Any]:
    """Share of the true hypervolume after each evaluation of one search, and the seconds that proposals took."""
    sampler = DistinctSampler(_maker(bench, kind), seed, bench.space)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for rank in bench.space.ladder:
        study.enqueue_trial(bench.space.proposal(bench.space.uniform(rank)))
    trained, shares, by_means, seconds = [], [], [], 0.0
    most = min(evaluations, LONGEST.get(kind, evaluations))
    while len(shares) < min(most, CURVE) or (len(shares) < most and max(shares) < GOAL):
        started = time.perf_counter()
        trial = study.ask()
        values = bench.objective(trial, seed % 2)
        seconds += time.perf_counter() - started
        study.tell(trial, values)
        trained.append(trial.params)
        shares.append(round(bench.share(trained), 5))
        by_means.append(round(bench.share(trained, "score"), 5))
    return {
        "sampler": kind,
        "seed": seed,
        "code": _digest(kind),
        "shares": shares,
        "shares_by_means": by_means,
        "seconds": round(seconds, 1),
    }


def _maker(bench: RankBench, kind: str) -> Callable[[int], BaseSampler]:
    if kind == "tpe, independent":
        return lambda seed, _budget: IndependentTPE(seed=seed)
    if kind == "nehvi, prior":
        return sampler_maker("nehvi", bench.space, lambda: bench.energies)
    if kind == "nehvi, shuffled":
        return lambda seed, budget: sampler_maker("nehvi", bench.space, lambda: shuffled(bench, seed))(seed, budget)
    return sampler_maker(kind, bench.space)


def shuffled(bench: RankBench, seed: int) -> dict[str, Sequence[float]]:
    """The energies of other modules."""
    names = list(bench.energies)
    return dict(
        zip(names, (bench.energies[name] for name in random.Random(seed).sample(names, len(names))), strict=True)
    )


@cache
def _digest(kind: str) -> str:
    """Of the code that proposes, and of the table: searches by another are run again."""
    search = Path(rank_search.__file__).parent / "search" / "proposals"
    code = sorted(search.glob("*.py")) if kind.startswith("nehvi") else [search / "samplers.py"]
    tables = sorted((Path(__file__).parent / "rankbench").glob("*.parquet"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in [*code, *tables])).hexdigest()


def reached(shares: Sequence[float]) -> int | None:
    """Evaluations until the goal; None where it is never reached."""
    return next((i for i, share in enumerate(shares, start=1) if share >= GOAL), None)


def summary(runs: Sequence[dict[str, Any]], evaluations: int) -> dict[str, Any]:
    """Of each sampler: evaluations to the goal, those that don't reach it counted as one more than they made."""
    found = {}
    for kind in NAMES:
        own_runs = [run for run in runs if run["sampler"] == kind]
        counts = sorted(reached(run["shares"]) or len(run["shares"]) + 1 for run in own_runs)
        steps = [n for n in (10, 20, 30, 50, 100) if n <= evaluations]
        found[kind] = {
            "evaluations_to_99_percent": {"median": statistics.median(counts), "all": counts},
            "reached": sum(reached(run["shares"]) is not None for run in own_runs),
            "median_share_after": {n: statistics.median(run["shares"][n - 1] for run in own_runs) for n in steps},
            "median_share_by_means_after": {
                n: statistics.median(run["shares_by_means"][n - 1] for run in own_runs) for n in steps
            },
            "seconds_a_proposal": statistics.mean(run["seconds"] / len(run["shares"]) for run in own_runs),
        }
    return found


def draw(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Regret over evaluations: median, and the band of the middle half."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    for (kind, name), colour in zip(
        NAMES.items(), ("#D55E00", "#F0A070", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#555555"), strict=True
    ):
        regret = 1 - np.array([run["shares"][:CURVE] for run in runs if run["sampler"] == kind])
        low, middle, high = np.maximum(np.quantile(regret, [0.25, 0.5, 0.75], axis=0), 1e-4)
        steps = np.arange(1, regret.shape[1] + 1)
        axes.plot(steps, middle, color=colour, label=name)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
    axes.axhline(1 - GOAL, color="#555555", ls="--", lw=1)
    axes.set(yscale="log", xlabel="maps trained", ylabel="missing part of the true hypervolume")
    axes.set_title("RankBench: median and middle half over seeds")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(
    seeds: Annotated[int, typer.Option(help="Searches of each sampler.")] = 20,
    evaluations: Annotated[int, typer.Option(help="Maps that a search trains at most.")] = 400,
    kinds: Annotated[list[str] | None, typer.Option(help="Samplers to run; all by default.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = OUT,
) -> None:
    """Runs every search, and writes samplers.json and samplers.png."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bench = RankBench.load()
    command = f"python benchmarks/samplers.py --seeds {seeds} --evaluations {evaluations}"
    path = out / "samplers.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    header = {"command": command, "environment": environment("cpu")}
    same = header.items() <= kept.items()
    runs = [run for run in kept["runs"] if run["code"] == _digest(run["sampler"])] if same else []
    done = {(run["sampler"], run["seed"]) for run in runs}
    out.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        for kind in kinds or NAMES:
            if (kind, seed) in done:
                continue
            runs.append(searched(bench, kind, seed, evaluations))
            path.write_text(json.dumps({**header, "runs": runs}) + "\n")
            print(kind, seed, reached(runs[-1]["shares"]), f"{runs[-1]['seconds']:.0f} s", flush=True)
    if {run["sampler"] for run in runs} != NAMES.keys():
        return  # the rest is to be run yet
    found = summary(runs, evaluations)
    path.write_text(json.dumps({**header, "summary": found, "runs": runs}) + "\n")
    draw(runs, out / "samplers.png")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    typer.run(main)
