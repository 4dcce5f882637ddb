"""How often the verdict's 95 % interval holds the truth, when the truth is known.

    python benchmarks/coverage.py              # 500 simulated studies: some minutes
    python benchmarks/coverage.py --runs 20    # a quick look

Each run is a study on RankBench: it sees one training of the uniform maps and of some others, drawn by chance, and
chooses by the default rule. The truth is how much higher the chosen map scores than its uniform rival, over all
examples and trainings of the table. The verdict sees a sample: examples drawn from those of the table, and on each of
its fresh seeds the noise of a training, in the mean and by example, as large as the trainings of the table show.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from rank_search.analysis.comparison import Comparison
from rank_search.analysis.maps import maps_table
from rank_search.analysis.verdict import judge
from rank_search.core.rivals import UNIFORM
from rank_search.search.schedule import SEARCH
from rank_search.study.metadata import environment
from rank_search.study.table import COLUMNS

sys.path.insert(0, str(Path(__file__).parent / "rankbench"))
import pandas as pd
from rankbench import RankBench

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OUT = Path("reports/benchmarks")
TESTED = 500  # examples of a verdict
OTHERS = 20  # maps of a study beside the uniform ones


def trials_of(bench: RankBench, draw: np.random.Generator, seed: int) -> pd.DataFrame:
    """The table of trials of a simulated study."""
    space = bench.space
    uniform = [bench.place(space.proposal(space.uniform(rank))) for rank in space.ladder]
    others = draw.choice(np.setdiff1d(np.arange(len(bench.table)), uniform), OTHERS, replace=False)
    rows = []
    for number, place in enumerate([*uniform, *others]):
        row = bench.table.iloc[int(place)]
        ranks = space.rank_map({name: int(row[name]) for name in space.dimensions})
        rows.append(
            {
                "number": number,
                "state": "COMPLETE",
                "kind": UNIFORM if place in uniform else SEARCH,
                "batch_order": 0,
                "score": row[f"score_{seed}"],
                "score_se": bench.examples[seed, place].std(ddof=1) / np.sqrt(bench.examples.shape[2]),
                "trainable_parameters": int(row["parameters"]),
                "ranks": dict(ranks.ranks),
                "key": ranks.key,
                "settings": {},
                "seconds": 1.0,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def run(bench: RankBench, seeds: int, number: int) -> dict[str, Any] | None:
    """One simulated verdict; None where the rule chose a uniform map, so that there is nothing to compare."""
    draw = np.random.default_rng(number)
    trials = trials_of(bench, draw, number % 2)
    contest = Comparison.of(maps_table(trials), trials)
    if contest.baseline is None or contest.baseline.number == contest.chosen.number:
        return None
    chosen, rival = (_row(bench, trial.ranks) for trial in (contest.chosen, contest.baseline))
    both = bench.examples[:, chosen] - bench.examples[:, rival]
    truth = float(both.mean())
    examples = draw.choice(both.shape[1], TESTED)
    values = {"chosen": _sampled(bench, both, examples, seeds, draw).tolist()}
    values["uniform"] = np.zeros_like(values["chosen"]).tolist()
    verdict = judge(contest, values, "test")
    return {"truth": truth, "delta": verdict.delta, "low": verdict.ci_low, "high": verdict.ci_high}


def _sampled(
    bench: RankBench, both: np.ndarray, examples: np.ndarray, seeds: int, draw: np.random.Generator
) -> np.ndarray:
    """``[seeds, examples]``: what two maps differ by in fresh trainings.

    Args:
        bench: its trainings show how much two of the same map differ in their mean scores.
        both: ``[2, examples]``: what the maps differ by in the table's two trainings. Half of what these differ by is
            the noise of a training on single examples.
        examples: those of the test.
        seeds: fresh trainings of each map.
        draw: all that is drawn.
    """
    apart = (both[0] - both[1]) / np.sqrt(2)
    of_training = 2 * float(bench.table["score_se"].iloc[0])  # √2 from a mean of two to one, √2 to a difference
    rows = []
    for _ in range(seeds):
        of_example = draw.permutation(apart) * draw.choice([-1, 1], len(apart))
        of_example -= of_example.mean()  # what a training adds to the mean is drawn with all the rest of it
        rows.append((both.mean(axis=0) + of_example)[examples] + of_training * draw.normal())
    return np.array(rows)


def _row(bench: RankBench, ranks: Mapping[str, int]) -> int:
    of_dimension = {name: ranks[modules[0]] for name, modules in bench.space.dimensions.items()}
    proposal = {name: bench.space.ladder.index(rank) for name, rank in of_dimension.items()}
    return bench.place(proposal)


def main(
    runs: Annotated[int, typer.Option(help="Simulated studies with a verdict.")] = 500,
    seeds: Annotated[int, typer.Option(help="Fresh trainings of each map.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = OUT,
) -> None:
    """Runs them, and writes coverage.json."""
    bench = RankBench.load()
    found: list[dict[str, Any]] = []
    number = 0
    while len(found) < runs:
        if (one := run(bench, seeds, number)) is not None:
            found.append(one)
        number += 1
    content = {
        "command": f"python benchmarks/coverage.py --runs {runs} --seeds {seeds}",
        "environment": environment("cpu"),
        "studies": number,
        "coverage": _share(found),
        "mean_width": float(np.mean([one["high"] - one["low"] for one in found])),
        "runs": found,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "coverage.json").write_text(json.dumps(content) + "\n")
    print(f"{_share(found):.1%} of {runs} intervals hold the truth; mean width {content['mean_width']:.4f}")


def _share(found: Sequence[dict[str, Any]]) -> float:
    return sum(one["low"] <= one["truth"] <= one["high"] for one in found) / len(found)


if __name__ == "__main__":
    typer.run(main)
