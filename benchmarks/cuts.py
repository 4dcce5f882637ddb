"""Recipes at equal parameters and equal steps: trained from scratch, cut out of one large training, trained on after.

    python benchmarks/cuts.py retriever-hpo --seeds 3

For a finished study, at half, a quarter and an eighth of its smallest uniform map's parameters: the ranks are those
that σ² of the study's large training suggests; each recipe is trained on the same fresh seeds and scored on the test
split. ``truncate`` is the cut as it is; ``recover`` trains it on for a quarter or half of the steps; ``scratch``
trains these ranks from the start, for as many steps as the large training and the recovery have together. A large
training is made once for all cuts of a seed. The same command goes on where it ended.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from rank_search.analysis.paired import paired_difference
from rank_search.app.loading import load_study_task
from rank_search.config import recorded
from rank_search.core.candidate import Candidate
from rank_search.executors.local import LocalExecutor
from rank_search.search.fresh_trainings import FreshTrainings
from rank_search.search.rivals.truncations import truncate_to_budget
from rank_search.study.handle import Study
from rank_search.study.metadata import environment

if TYPE_CHECKING:
    from rank_search.core.ranks import RankMap

OUT = Path("reports/benchmarks/cuts.json")
PLACE = "cuts"  # folder of their trainings, in the study's
PARTS = (2, 4, 8)  # of the smallest uniform map's parameters
RECOVERIES = (0.25, 0.5)  # of the study's steps


def main(
    studies: Annotated[list[str], typer.Argument(help="Finished studies with a large training.")],
    seeds: Annotated[int, typer.Option(help="Trainings of each recipe.")] = 3,
    out: Annotated[Path, typer.Option(help="The file of results.")] = OUT,
) -> None:
    """Trains what is missing, and writes what came out."""
    found = {study: _of_study(study, seeds) for study in studies}
    out.parent.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/cuts.py {' '.join(studies)} --seeds {seeds}"
    out.write_text(
        json.dumps({"command": command, "environment": environment("cpu"), "studies": found}, indent=1) + "\n"
    )
    print("\n".join(_rows(found)))


def _of_study(name: str, seeds: int) -> list[dict[str, Any]]:
    """One row for each size and recipe."""
    study = Study.open(name)
    config = recorded(study.metadata.config)
    task, space = load_study_task(config)
    executor = LocalExecutor(config, task, space)
    large = next(trial.number for trial in study.trials() if trial.rival and trial.rival.recipe == "scratch")
    spectrum = executor.spectrum(study.folder.adapter(large))
    smallest = space.parameters(space.uniform(next(rank for rank in space.ladder if rank)))

    def recipes(rank_map: RankMap) -> dict[str, Candidate]:
        rates = study.rates.settings(space.parameters(rank_map)) if study.rates else {}
        steps = config.training.steps
        made = {"truncate": Candidate(rank_map, rates, "truncate", large), "scratch": Candidate(rank_map, rates)}
        for share in RECOVERIES:
            more = round(share * steps)
            made[f"recover {more}"] = Candidate(rank_map, {**rates, "steps": more}, "recover", large)
            made[f"scratch {steps + more}"] = Candidate(rank_map, {**rates, "steps": steps + more})
        return made

    maps = {part: truncate_to_budget(spectrum, space.shapes, smallest // part) for part in PARTS}
    candidates = {part: recipes(rank_map) for part, rank_map in maps.items()}
    trainings = FreshTrainings(study, config.seed, PLACE)

    def said(done: int, total: int) -> None:
        print(f"{name}: {done} of {total} trainings", file=sys.stderr, flush=True)

    trainings.run([one for made in candidates.values() for one in made.values()], seeds, executor, said)

    def on_test(candidate: Candidate) -> np.ndarray:
        results = (study.folder.read_training(PLACE, candidate.key, seed) for seed in range(seeds))
        return np.array([result["values"][study.metric] for result in results])

    rows = []
    for part, made in candidates.items():
        values = {recipe: on_test(candidate) for recipe, candidate in made.items()}
        for recipe, scores in values.items():
            difference = paired_difference(scores - values["scratch"])
            rows.append(
                {
                    "parameters": space.parameters(maps[part]),
                    "recipe": recipe,
                    "score": float(scores.mean()),
                    "difference": difference.delta,
                    "interval": None if recipe == "scratch" else difference.interval(),
                }
            )
    return rows


def _rows(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """As a table."""
    lines = ["| study | parameters | recipe | score | to scratch |", "|---|---|---|---|---|"]
    for study, rows in found.items():
        for row in rows:
            low, high = row["interval"] or (0.0, 0.0)
            apart = "" if row["interval"] is None else f"{row['difference']:+.4f} ({low:+.4f} to {high:+.4f})"
            lines.append(f"| {study} | {row['parameters']:,} | {row['recipe']} | {row['score']:.4f} | {apart} |")
    return lines


if __name__ == "__main__":
    typer.run(main)
