"""The table of reports/tasks.md: what the shipped study files found, one row a task.

Run the study files first, then this, in one folder; it reads their reports and prints Markdown.

    for task in classifier-banking77 retriever-xquad generator-xquad rag-xquad; do
        python -m rank_search run configs/$task.yaml
    done
    python benchmarks/tasks_table.py > reports/tasks.md
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from rank_search.modules import layer_of

STUDIES = ("classifier-banking77", "retriever-xquad", "generator-xquad", "rag-xquad")
COLUMNS = (
    "study",
    "metric",
    "before",
    "best uniform (validation)",
    "best proposed (validation)",
    "chosen (validation)",
    "test: before",
    "test: uniform rival",
    "test: chosen",
    "trials",
    "seconds",
)
HEAD = """\
# What the search found on each task

Written by `python benchmarks/tasks_table.py` from the reports of the study files in `configs/`. Maps were chosen on the
validation split by the default rule (the smallest map within one standard error of the best); test scores are of
data that nothing was chosen on. Parameters are the adapters' alone. Seconds are training and evaluation of all trials.
"""


def main(reports: Path = Path("reports"), studies: list[str] = typer.Argument(STUDIES)) -> None:  # noqa: B008
    """Prints the table."""
    summaries = [json.loads((reports / study / "summary.json").read_text()) for study in studies]
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(_row(summary) for summary in summaries),
    ]
    print(HEAD)
    print("\n".join(lines))
    for summary in summaries:
        print(f"\n## {summary['study']}\n\n{_details(summary)}")
    machine = summaries[0]["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = f"{machine['platform']}, {machine['cpus']} cores, {machine['device']}"
    print(f"\nMachine: {where}; Python {machine['python']}, {versions}.")


def _row(summary: dict[str, Any]) -> str:
    trials = [trial for trial in summary["trials"] if trial["state"] == "COMPLETE"]
    uniform = [trial for trial in trials if trial["kind"] == "baseline:uniform"]
    before = next(trial["score"] for trial in uniform if not trial["trainable_parameters"])
    trained = [trial for trial in uniform if trial["trainable_parameters"]]
    proposed = [trial for trial in trials if trial["kind"] == "search"]
    chosen = next(trial for trial in trials if trial["number"] == summary["chosen"]["trial"])
    test = summary["test"]
    cells = [
        summary["study"],
        summary["metric"],
        f"{before:.4f}",
        *(_of(max(group, key=lambda trial: trial["score"])) for group in (trained, proposed, [chosen])),
        *(f"{test[name]:.4f}" if name in test else "" for name in ("untrained", "uniform", "chosen")),
        str(len(trials)),
        f"{sum(trial['seconds'] for trial in trials):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _of(trial: dict[str, Any]) -> str:
    ranks = set(trial["ranks"].values())
    name = f"r={ranks.pop()}" if len(ranks) == 1 else f"trial {trial['number']}"
    return f"{trial['score']:.4f} ({name}, {trial['trainable_parameters']:,})"


def _details(summary: dict[str, Any]) -> str:
    parts = [f"`python -m rank_search run configs/{summary['study']}.yaml`", summary["verdict"]["text"]]
    if summary["head_parameters"]:
        parts.append(
            f"Every trial also trains a fresh head of {summary['head_parameters']:,} parameters; “before” on "
            "validation is the head alone (rank 0 everywhere), “test: before” the model with its untrained head."
        )
    names = list(summary["test_metrics"]["untrained"])
    table = [f"| test | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    told = {
        "untrained": "before fine-tuning",
        "chosen": "chosen map",
        "uniform": "uniform rival",
        "svd": "SVD map of no more parameters",
        "best uniform": "best uniform map",
    }
    for model, means in summary["test_metrics"].items():
        table.append(f"| {told[model]} | {' | '.join(f'{means[name]:.4f}' for name in names)} |")
    ranks = ", ".join(f"{rank}" for rank in _by_layer(summary["chosen"]["ranks"]))
    return "\n\n".join([*parts, "\n".join(table), f"Ranks of the chosen map, layer by layer: {ranks}."])


def _by_layer(ranks: dict[str, int]) -> list[int]:
    """One rank a layer: all modules of a layer share theirs in these studies."""
    return list({layer_of(name): rank for name, rank in ranks.items()}.values())


if __name__ == "__main__":
    typer.run(main)
