"""How often the verdict's 95 % interval holds the truth, when the truth is known.

    python benchmarks/coverage.py                    # 500 simulated studies, after `make demo`
    python benchmarks/coverage.py --runs 20          # a quick look

Each run is a study on RankBench: it sees one training of the uniform maps and of some others, drawn by chance, and
chooses by the default rule. The truth is the difference of the two maps' mean scores in the table. The verdict sees
what fresh trainings would give: that difference, the noise of each training as RankBench has it, and what examples add,
drawn from how differently two maps of a real study scored its test examples.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from rank_search.analysis.contest import Contest
from rank_search.analysis.maps import maps_table
from rank_search.analysis.verdict import judge
from rank_search.search.baselines import UNIFORM
from rank_search.search.plan import SEARCH
from rank_search.search.record import environment
from rank_search.search.storage import StudyFolder
from rank_search.search.table import COLUMNS

sys.path.insert(0, str(Path(__file__).parent / "rankbench"))
import pandas as pd
from rankbench import RankBench

if TYPE_CHECKING:
    from collections.abc import Sequence

OUT = Path("reports/benchmarks")
EXAMPLES_SE = 0.015  # standard error over examples that the simulated studies choose by
OTHERS = 20  # maps of a study beside the uniform ones


def example_noise(study: Path) -> np.ndarray:
    """``[seeds, examples]``: how differently two maps of a study scored its examples, without their means."""
    folder = StudyFolder(study)
    names = sorted({path.name.rsplit("-", 1)[0] for path in (study / "confirmations").glob("*.json")})
    results = [folder.read_confirmations(name) for name in names[:2]]
    (metric, *_) = results[0][0]["values"]
    one, other = (np.array([result["values"][metric] for result in of]) for of in results)
    differences = one - other
    return differences - differences.mean(axis=1, keepdims=True)


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
                "round": 0,
                "score": row[f"score_{seed}"],
                "score_se": EXAMPLES_SE,
                "trainable_parameters": int(row["parameters"]),
                "ranks": dict(ranks.ranks),
                "key": ranks.key,
                "settings": {},
                "seconds": 1.0,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def run(bench: RankBench, noise: np.ndarray, seeds: int, number: int) -> dict[str, Any] | None:
    """One simulated verdict; None where the rule chose a uniform map, so that there is nothing to compare."""
    draw = np.random.default_rng(number)
    trials = trials_of(bench, draw, number % 2)
    contest = Contest.of(maps_table(trials), trials)
    if contest.baseline is None or contest.baseline == contest.chosen:
        return None
    true = {trial.number: _mean_score(bench, trial.ranks) for trial in (contest.chosen, contest.baseline)}
    truth = true[contest.chosen.number] - true[contest.baseline.number]
    examples = draw.choice(noise.shape[1], noise.shape[1])
    of_training = np.sqrt(2) * float(bench.table["score_se"].iloc[0])  # of the mean of two → of one
    training = np.sqrt(2) * of_training * draw.normal(size=(seeds, 1))  # of a difference
    differences = truth + training + noise[draw.choice(len(noise), seeds)][:, examples]
    values = {"chosen": differences.tolist(), "uniform": np.zeros_like(differences).tolist()}
    verdict = judge(contest, values, "test")
    assert verdict.ci_low is not None  # noqa: S101
    assert verdict.ci_high is not None  # noqa: S101
    return {"truth": truth, "delta": verdict.delta, "low": verdict.ci_low, "high": verdict.ci_high}


def _mean_score(bench: RankBench, ranks: dict[str, int]) -> float:
    of_dimension = {name: ranks[modules[0]] for name, modules in bench.space.dimensions.items()}
    proposal = {name: bench.space.ladder.index(rank) for name, rank in of_dimension.items()}
    return float(bench.table["score"].iloc[bench.place(proposal)])


def main(
    runs: Annotated[int, typer.Option(help="Simulated studies with a verdict.")] = 500,
    seeds: Annotated[int, typer.Option(help="Fresh trainings of each map.")] = 3,
    study: Annotated[Path, typer.Option(help="Folder of the study whose examples are drawn.")] = Path("studies/demo"),
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = OUT,
) -> None:
    """Runs them, and writes coverage.json."""
    bench, noise = RankBench.load(), example_noise(study)
    found: list[dict[str, Any]] = []
    number = 0
    while len(found) < runs:
        if (one := run(bench, noise, seeds, number)) is not None:
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
