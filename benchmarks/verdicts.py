"""Writes reports/verdicts.md: whether the search earned its cost on the shipped tasks, read from the studies' reports.

for study in demo classifier-banking77 retriever-xquad; do
    python -m rank_search run configs/$study.yaml
done
python benchmarks/verdicts.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pages import rendered

from rank_search.analysis.comparison import BEST_UNIFORM
from rank_search.core.module_names import layer_of
from rank_search.report.page import ROLES

STUDIES = ["demo", "classifier-banking77", "retriever-xquad"]
GOAL = 0.5  # of the best uniform map's parameters


def main(
    studies: Annotated[list[str] | None, typer.Argument(help="Studies with a report.")] = None,
    reports: Annotated[Path, typer.Option(help="Folder of the reports.")] = Path("reports"),
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("reports/verdicts.md"),
) -> None:
    """Writes the file."""
    summaries = [json.loads((reports / study / "summary.json").read_text()) for study in studies or STUDIES]
    text = rendered("verdicts.md.j2", summaries=[_view(summary) for summary in summaries], roles=ROLES)
    out.write_text(text)
    print(out)


def _view(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary with what the file shows beside it."""
    of_role = {comparison["role"]: comparison for comparison in summary["verdict"]["comparisons"]}
    trials = summary["trials"]
    searched = [trial for trial in trials if not trial["kind"].startswith("baseline:")]
    rivals = [trial for trial in trials if trial["kind"].startswith("baseline:")]
    seconds = {
        "search": sum(trial["seconds"] or 0 for trial in searched),
        "baselines": sum(trial["seconds"] or 0 for trial in rivals),
        "verdict": summary["verdict_seconds"],
    }
    return {
        **summary,
        "comparisons": of_role,
        "goal": _goal(summary, of_role.get(BEST_UNIFORM)),
        "trained": {"search": len(searched), "baselines": len(rivals), "verdict": _fresh_trainings(summary)},
        "minutes": {part: taken / 60 for part, taken in seconds.items()},
        "layers": _by_layer(summary["chosen"]["ranks"]),
    }


def _goal(summary: dict[str, Any], best: dict[str, Any] | None) -> str:
    """Whether the chosen map is as good as the best uniform one at no more than half of its parameters.

    An interval with zero in it shows no equality: a study of few examples must not come off better than one of many.
    """
    of_trial = {compared["role"]: compared["trial"] for compared in summary["compared"]}
    if of_trial.get(BEST_UNIFORM) == of_trial["chosen"]:
        return "no: it is the best uniform map"
    if best is None:
        return "not measured"
    if best["share"] is not None and best["share"] > GOAL:
        return f"no: it has {best['share']:.0%} of its parameters"
    if best["ci_high"] < 0:
        return "no: it scores less"
    return "yes: it scores more" if best["ci_low"] > 0 else "no difference shown, at half of the parameters or fewer"


def _fresh_trainings(summary: dict[str, Any]) -> int:
    """Trainings for the verdict; a map in two roles is trained once."""
    of_trial = {
        compared["trial"]: len(compared["tests"]) + len(compared["failures"]) for compared in summary["compared"]
    }
    return sum(of_trial.values())


def _by_layer(ranks: dict[str, int]) -> list[int]:
    """One rank a layer: all modules of a layer share theirs in these studies."""
    return list({layer_of(name): rank for name, rank in ranks.items()}.values())


if __name__ == "__main__":
    typer.run(main)
