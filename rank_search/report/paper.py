"""Figures and a table for a paper: single-column PDF, and LaTeX with booktabs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rank_search.report.figures import drawn

if TYPE_CHECKING:
    from pathlib import Path

    from rank_search.report.summary import Summary

_COLUMN = {"figure.figsize": (3.4, 2.9), "font.size": 7, "lines.markersize": 4}
_FIGURES = ("pareto", "rank_heatmap", "hypervolume")


def write_paper(summary: Summary, folder: Path) -> list[Path]:
    """Writes ``paper/`` into a report: figures without titles, which are a caption's business, and ``front.tex``."""
    out = folder / "paper"
    out.mkdir()
    files = []
    for name, figure in drawn(summary, _FIGURES, _COLUMN).items():
        figure.axes[0].set_title("")
        files.append(out / f"{name}.pdf")
        figure.savefig(files[-1], metadata={"CreationDate": None})
    (out / "front.tex").write_text(front_table(summary), encoding="utf-8")
    return [*files, out / "front.tex"]


def front_table(summary: Summary) -> str:
    """The front as a LaTeX table; the chosen map is in bold."""
    rows = []
    for row in summary.front.to_dict(orient="records"):
        cells = [
            str(row["number"]),
            f"{row['trainable_parameters']:,}",
            f"{row['score']:.4f}" + (rf" $\pm$ {row['score_se']:.4f}" if math.isfinite(row["score_se"]) else ""),
            str(row["seeds"]),
            f"{row['front_probability']:.2f}",
        ]
        chosen = row["number"] == summary.chosen.number
        rows.append(" & ".join(rf"\textbf{{{cell}}}" if chosen else cell for cell in cells) + r" \\")
    metric = summary.metadata.config["task"]["metric"].replace("%", r"\%").replace("_", r"\_")
    head = f"trial & parameters & {metric} & seeds & on the front" + r" \\"
    lines = [r"\begin{tabular}{rrrrr}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"
