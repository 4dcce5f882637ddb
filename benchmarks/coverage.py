"""How often intervals hold the truth, and choices are right, where the truth is known.

    python benchmarks/coverage.py              # 1,000 simulated studies of each kind: an hour; goes on where it ended
    python benchmarks/coverage.py --runs 50    # a quick look

Each simulated study draws maps from a table of real trainings, whose scores are known example by example. What a map
truly scores is its mean over all trainings and examples of the table. A study sees samples of that: examples drawn from
those of the table, one sample for the search, one for the choice and one for the verdict; and in each training the
noise of a seed, in the mean and by example, as large as trainings of the same map in the table differ by.

Of each study it is asked: whether the paired intervals of its maps against the best uniform map hold the truth, for
1, 2, 3, 5 and 10 seeds; whether the map that the rule chooses is truly worse than the best map by more than the margin,
and how much larger it is than the smallest map that is truly as good; and whether the verdict's interval, at which it
looks again and again while it trains more seeds, holds the truth when it stops.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from rank_search.analysis.choice import choose, in_doubt
from rank_search.analysis.evidence import Evidence, trainings_of
from rank_search.analysis.looks import level, looks
from rank_search.analysis.maps import maps_table
from rank_search.analysis.scores import ExampleScores
from rank_search.analysis.verdict import outcome_of
from rank_search.core.choice import Margin, Rule
from rank_search.core.rivals import SEARCH, UNIFORM
from rank_search.study.metadata import environment
from rank_search.study.table import COLUMNS

sys.path.insert(0, str(Path(__file__).parent / "rankbench"))
from rankbench import RankBench

OUT = Path("reports/benchmarks")
SEEDS = (1, 2, 3, 5, 10)
_DEMO = 0.0022  # what a seed shifts a map by in the demo's verdict, by analysis of variance
OTHERS = 20  # maps of a study beside the uniform ones
ROUNDS, IN_ROUND = 3, 4  # repeats of a study, and the maps in each
RULES = ("as-good-as-best", "within-one-se")


@dataclass(frozen=True)
class Mix:
    """One kind of noise.

    Attributes:
        name: in words.
        scores: ``[seeds, maps, examples]`` of real trainings.
        parameters: of each map.
        uniform: places of the trained uniform maps; the untrained one stands first.
        examples: of each sample.
        of_seed: standard deviation by which a seed shifts a map's mean score, beyond what its examples show.
    """

    name: str
    scores: np.ndarray
    parameters: np.ndarray
    uniform: tuple[int, ...]
    examples: int
    of_seed: float = 0.0

    @cached_property
    def truth(self) -> np.ndarray:
        """What each map truly scores for each example, ``[maps, examples]``."""
        mean: np.ndarray = self.scores.mean(axis=0)
        return mean

    @cached_property
    def rest(self) -> np.ndarray:
        """What a training adds for single examples, by map and example: of mean zero."""
        seeds = len(self.scores)
        around = (self.scores[0] - self.truth) * math.sqrt(seeds / (seeds - 1))
        centred: np.ndarray = around - around.mean(axis=1, keepdims=True)
        return centred

    def sample(self, draw: np.random.Generator) -> np.ndarray:
        """Examples of one part of a study."""
        return draw.integers(self.scores.shape[2], size=self.examples)

    def training(self, place: int, parts: list[np.ndarray], draw: np.random.Generator) -> list[np.ndarray]:
        """What one training of a map scores on each part; the untrained map scores the same each time."""
        if self.parameters[place] == 0:
            return [self.truth[place][part] for part in parts]
        shift = self.of_seed * draw.normal()
        scores = self.truth[place] + shift + draw.permutation(self.rest[place]) * draw.choice([-1.0, 1.0])
        return [scores[part] for part in parts]


def mixes() -> list[Mix]:
    """The kinds of noise that are simulated."""
    bench = RankBench.load()
    space = bench.space
    uniform = tuple(bench.place(space.proposal(space.uniform(rank))) for rank in space.ladder)
    parameters = bench.table["parameters"].to_numpy(dtype=int)
    return [
        Mix("RankBench, 500 examples", bench.examples, parameters, uniform, 500),
        Mix("RankBench, 2,000 examples", bench.examples, parameters, uniform, 2000),
        Mix("RankBench, 500 examples, seeds as noisy as the demo's", bench.examples, parameters, uniform, 500, _DEMO),
        Mix(
            "RankBench, 2,000 examples, seeds as noisy as the demo's", bench.examples, parameters, uniform, 2000, _DEMO
        ),
    ]


class Simulated:
    """One simulated study."""

    def __init__(self, mix: Mix, draw: np.random.Generator) -> None:
        self.mix = mix
        self._draw = draw
        others = np.setdiff1d(np.arange(len(mix.parameters)), mix.uniform)
        self.places = [*mix.uniform, *draw.choice(others, min(OTHERS, len(others)), replace=False).tolist()]
        self._parts = [mix.sample(draw), mix.sample(draw)]
        self._values: list[list[np.ndarray]] = []
        self._rows: list[dict[str, Any]] = []
        for place in self.places:
            self._train(place, 0)
        for order in range(1, ROUNDS + 1):
            doubtful = [number for number in in_doubt(self.evidence()) if mix.parameters[self.places[number]] > 0]
            for number in doubtful[:IN_ROUND]:
                self._train(self.places[number], order)

    def _train(self, place: int, order: int) -> None:
        searched, selected = self.mix.training(place, self._parts, self._draw)
        self._values.append([searched, selected])
        parameters = int(self.mix.parameters[place])
        self._rows.append(
            {
                "number": len(self._rows),
                "state": "COMPLETE",
                "kind": UNIFORM if place in self.mix.uniform else SEARCH,
                "in_space": True,
                "batch_order": order,
                "score": searched.mean(),
                "score_se": searched.std(ddof=1) / math.sqrt(len(searched)),
                "trainable_parameters": parameters,
                "ranks": {"module": int(parameters > 0)},
                "key": str(place),
                "settings": {},
                "seconds": 1.0,
            }
        )

    def evidence(self, *, halves: bool = False) -> Evidence:
        """The evidence so far; ``halves``: as if no examples were set apart for the choice."""
        trials = pd.DataFrame(self._rows, columns=list(COLUMNS)).astype({"in_space": bool})
        maps = maps_table(trials)
        trainings = trainings_of(trials, maps)
        searched = ExampleScores(trainings, lambda number: self._values[number][0])
        selected = None if halves else ExampleScores(trainings, lambda number: self._values[number][1])
        return Evidence(trials, maps, searched, selected, Margin(0.1, is_share=True))

    def chosen(self, rule: str, evidence: Evidence) -> dict[str, Any]:
        """What a rule chooses by the evidence at the end, and whether that is right."""
        found = choose(evidence, Rule(rule))
        true = self.mix.truth[self.places].mean(axis=1)
        sizes = self.mix.parameters[self.places]
        margin = 0.1 * (true[1 : len(self.mix.uniform)].max() - true[0])
        as_good = true >= true.max() - margin
        best = evidence.front[-1]
        return {
            "wrong": not as_good[found.number],
            "worse_than_the_best_of_the_front": bool(true[found.number] < true[best.number] - margin),
            "best_is_wrong": not as_good[best.number],
            "loss": float((true.max() - true[found.number]) / margin),
            "size": float(sizes[found.number] / sizes[as_good].min()),
        }


def covered(mix: Mix, draw: np.random.Generator, seeds: int) -> tuple[bool, float]:
    """Whether the interval of two maps' difference holds the truth, and its width.

    Four maps are compared, as a verdict does; the noise of their seeds is known from all of them.
    """
    places = draw.choice(np.flatnonzero(mix.parameters > 0), 4, replace=False).tolist()
    part = mix.sample(draw)
    values = {
        (number, seed): mix.training(place, [part], draw)[0]
        for number, place in enumerate(places)
        for seed in range(seeds)
    }
    trainings = {number: {seed: number * seeds + seed for seed in range(seeds)} for number in range(4)}
    scores = ExampleScores(trainings, lambda trial: values[divmod(trial, seeds)])
    found = scores.difference(0, 1)
    if found is None:
        raise ValueError("the simulated maps have no common seed")
    low, high = found.interval()
    truth = float(mix.truth[places[0]].mean() - mix.truth[places[1]].mean())
    return low <= truth <= high, high - low


def looked(mix: Mix, draw: np.random.Generator, most: int) -> tuple[bool, int, str]:
    """A verdict that trains more seeds until something is shown.

    Returns:
        Whether its last interval holds the truth; its seeds; its outcome.
    """
    places = draw.choice(np.flatnonzero(mix.parameters > 0), 4, replace=False).tolist()
    part = mix.sample(draw)
    rows: dict[int, np.ndarray] = {}
    margin = 0.1 * float(mix.truth[list(mix.uniform)].mean(axis=1).max() - mix.truth[mix.uniform[0]].mean())
    truth = float(mix.truth[places[0]].mean() - mix.truth[places[1]].mean())
    for seeds in looks(most):
        for number, place in enumerate(places):
            for seed in range(seeds):
                if number * most + seed not in rows:
                    rows[number * most + seed] = mix.training(place, [part], draw)[0]
        trainings = {number: {seed: number * most + seed for seed in range(seeds)} for number in range(4)}
        found = ExampleScores(trainings, rows.__getitem__).difference(0, 1)
        if found is None:
            raise ValueError("the simulated maps have no common seed")
        low, high = found.interval(level(seeds))
        is_smaller = bool(mix.parameters[places[0]] < mix.parameters[places[1]])
        outcome = outcome_of(low, high, margin, is_smaller=is_smaller)
        if outcome != "not shown":
            break
    return low <= truth <= high, seeds, outcome


def simulated(mix: Mix, runs: int) -> dict[str, Any]:
    """The figures of one kind of noise."""
    choices: dict[str, list[dict[str, Any]]] = {f"{rule}{part}": [] for rule in RULES for part in ("", ", halves")}
    for run in range(runs):
        study = Simulated(mix, np.random.default_rng([run, 0]))
        whole, halves = study.evidence(), study.evidence(halves=True)
        for rule in RULES:
            choices[rule].append(study.chosen(rule, whole))
            choices[f"{rule}, halves"].append(study.chosen(rule, halves))
    intervals = {
        seeds: [covered(mix, np.random.default_rng([run, 1, seeds]), seeds) for run in range(runs)] for seeds in SEEDS
    }
    verdicts = [looked(mix, np.random.default_rng([run, 2]), SEEDS[-1]) for run in range(runs)]
    return {
        "mix": mix.name,
        "of_seed": mix.of_seed,
        "coverage": {seeds: float(np.mean([held for held, _ in found])) for seeds, found in intervals.items()},
        "width": {seeds: float(np.mean([width for _, width in found])) for seeds, found in intervals.items()},
        "choices": {
            name: {
                "wrong": float(np.mean([one["wrong"] for one in found])),
                "worse_than_the_best_of_the_front": float(
                    np.mean([one["worse_than_the_best_of_the_front"] for one in found])
                ),
                "best_is_wrong": float(np.mean([one["best_is_wrong"] for one in found])),
                "median_loss_in_margins": float(np.median([one["loss"] for one in found])),
                "median_size": float(np.median([one["size"] for one in found])),
            }
            for name, found in choices.items()
            if name != "within-one-se, halves"
        },
        "stopped": {
            "coverage": float(np.mean([held for held, _, _ in verdicts])),
            "mean_seeds": float(np.mean([seeds for _, seeds, _ in verdicts])),
            "shown": float(np.mean([outcome != "not shown" for _, _, outcome in verdicts])),
        },
    }


def main(
    runs: Annotated[int, typer.Option(help="Simulated studies of each kind of noise.")] = 1000,
    only: Annotated[str, typer.Option(help="Kinds of noise whose name holds this.")] = "",
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = OUT,
) -> None:
    """Simulates them, and writes coverage.json."""
    file = out / "coverage.json"
    out.mkdir(parents=True, exist_ok=True)
    known = json.loads(file.read_text()) if file.exists() else {"runs": runs, "mixes": []}
    found = known["mixes"] if known["runs"] == runs else []
    for mix in mixes():
        if only not in mix.name or mix.name in [one["mix"] for one in found]:
            continue
        found.append(simulated(mix, runs))
        print(json.dumps(found[-1], indent=1), flush=True)
        content = {
            "command": f"python benchmarks/coverage.py --runs {runs}",
            "environment": environment("cpu"),
            "runs": runs,
            "mixes": found,
        }
        file.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
