"""Writes reports/verdicts.md: what the shipped studies say, read from them and from their reports.

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

from rank_search.analysis.evidence import study_evidence
from rank_search.analysis.looks import level
from rank_search.analysis.power import ASSUMED, measured_spread
from rank_search.core.module_names import layer_of
from rank_search.report.page import ROLES
from rank_search.study.folder import StudyFolder
from rank_search.study.handle import Study

STUDIES = ["demo", "classifier-banking77", "retriever-xquad"]


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
        "promises": _promises(_opened(summary["study"]), summary),
        "trained": {"search": len(searched), "baselines": len(rivals), "verdict": _fresh_trainings(summary)},
        "minutes": {part: taken / 60 for part, taken in seconds.items()},
        "layers": _by_layer(summary["chosen"]["ranks"]),
    }


def _promises(study: Study, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Half of the width of each comparison's interval, beside what `plan` would have promised for as many seeds.

    Before the first trial, when a study is taken to spread as others do; and after the search, from its own maps.
    """
    spreads = {"before": ASSUMED, "after": measured_spread(study_evidence(study)) or ASSUMED}
    examples = summary["verdict"]["examples"]
    found = {}
    for comparison in summary["verdict"]["comparisons"]:
        seeds = comparison["seeds"]
        promised = {name: spread.half_width(seeds, examples, level(seeds)) for name, spread in spreads.items()}
        came_out = (comparison["ci_high"] - comparison["ci_low"]) / 2
        found[comparison["trial"]] = {**comparison, "promised": promised, "came_out": came_out}
    return list(found.values())


def _opened(name: str) -> Study:
    study = Study.find(StudyFolder.named(name))
    if study is None:
        raise FileNotFoundError(f"studies/{name}: no study; run configs/{name}.yaml first")
    return study


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
