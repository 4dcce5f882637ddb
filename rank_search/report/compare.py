"""Several studies on one page: their fronts and uniform ranks in one figure, and what each came to."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from rank_search.analysis.front import hypervolume
from rank_search.core.errors import InputError
from rank_search.core.rivals import UNIFORM
from rank_search.report.figures import price_axis, styled
from rank_search.report.folder import ReportFolder
from rank_search.report.html import page
from rank_search.report.interactive import empty
from rank_search.report.marks import PALETTE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    import plotly.graph_objects as go

    from rank_search.report.summary import Summary


@dataclass(frozen=True)
class Compared:
    """One of several studies.

    Attributes:
        summary: the study.
        name: its name, which no other study of the comparison has.
        gain: what is subtracted from its scores: nothing, or the untrained model's where metrics or data differ.
        hypervolume: against the reference point that all share; None where scores can't be compared.
    """

    summary: Summary
    name: str
    gain: float
    hypervolume: float | None

    def points(self, rows: pd.DataFrame) -> tuple[list[float], list[float]]:
        """(parameters, scores or gains) of maps that adapt something."""
        adapted = rows[rows["trainable_parameters"] > 0]
        return adapted["trainable_parameters"].astype(float).tolist(), (adapted["score"] - self.gain).tolist()

    @property
    def uniform(self) -> pd.DataFrame:
        """The uniform maps, by ascending parameters."""
        maps = self.summary.maps
        return maps[maps["kind"] == UNIFORM].sort_values("trainable_parameters")


def compared(summaries: Sequence[Summary]) -> list[Compared]:
    """Puts studies side by side.

    Raises:
        InputError: metrics or data differ, and a study has not scored the untrained model, against which alone they
            could be compared.
    """
    yardsticks = {(study.metadata.config["task"]["metric"], study.metadata.data_fingerprint) for study in summaries}
    scores, parameters = zip(*(study.reference for study in summaries), strict=True)
    common = (min(scores), max(parameters))
    names = [study.name for study in summaries]
    found = []
    for place, summary in enumerate(summaries):
        name = summary.name if names.count(summary.name) == 1 else f"{summary.name} ({place + 1})"
        if len(yardsticks) == 1:
            found.append(Compared(summary, name, 0.0, hypervolume(summary.maps, common)))
            continue
        untrained = summary.maps.query("trainable_parameters == 0")["score"]
        if untrained.empty:
            raise InputError(
                f"{summary.name!r} has another metric or other data than the others, and no score of the untrained "
                "model to compare gains by; compare studies of one task, or with 0 in space.ladder",
                field="STUDY",
            )
        found.append(Compared(summary, name, float(untrained.iloc[0]), None))
    return found


def write_comparison(summaries: Sequence[Summary], out: Path) -> None:
    """Writes ``index.html`` and ``fronts.png`` into a folder, in place of older ones; other files there stay.

    Raises:
        InputError: the studies can't be compared, or the folder is no place for their comparison.
    """
    studies = compared(summaries)
    folder = ReportFolder(out, "+".join(summary.metadata.identity for summary in summaries))
    with folder.replaced() as partial:
        picture = partial / "fronts.png"
        _drawn(studies).savefig(picture)
        text = page(
            "compare.html.j2",
            " against ".join(study.name for study in studies),
            [picture],
            {"fronts": _interactive(studies)},
            ["plots.js", "compare.js"],
            studies=studies,
            same=studies[0].hypervolume is not None,
        )
        (partial / "index.html").write_text(text, encoding="utf-8")


def _axis(studies: Sequence[Compared]) -> str:
    if studies[0].hypervolume is None:
        return "score above the untrained model's, validation"
    return f"{studies[0].summary.metadata.config['task']['metric']}, validation"


def _coloured(studies: Sequence[Compared]) -> Iterator[tuple[Compared, str]]:
    return zip(studies, itertools.cycle(PALETTE), strict=False)


def _drawn(studies: Sequence[Compared]) -> Figure:
    """Fronts as steps, uniform ranks as squares on a dotted line."""
    with styled():
        figure = Figure(layout="constrained")
        axes = figure.subplots()
        for study, colour in _coloured(studies):
            axes.step(*study.points(study.summary.front), "o-", where="post", color=colour, label=study.name)
            axes.plot(
                *study.points(study.uniform), "s:", color=colour, mfc="none", label=f"{study.name}, uniform ranks"
            )
        price_axis(axes)
        axes.set_xlabel("trainable parameters (log scale)")
        axes.set_ylabel(_axis(studies))
        figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    return figure


def _interactive(studies: Sequence[Compared]) -> go.Figure:
    figure = empty("trainable parameters", _axis(studies), height=480)
    figure.update_xaxes(type="log", dtick="D2", tickformat="~s")
    for study, colour in _coloured(studies):
        _add(figure, study, study.summary.front, {"name": study.name, "line": {"shape": "hv", "color": colour}})
        line = {"color": colour, "dash": "dot"}
        marker = {"symbol": "square-open", "size": 9}
        _add(figure, study, study.uniform, {"name": f"{study.name}, uniform ranks", "line": line, "marker": marker})
    return figure


def _add(figure: go.Figure, study: Compared, rows: pd.DataFrame, style: dict[str, Any]) -> None:
    parameters, scores = study.points(rows)
    numbers = rows[rows["trainable_parameters"] > 0]["number"].tolist()
    template = "trial %{customdata}<br>%{y:.4f} with %{x:,} parameters"
    figure.add_scatter(
        x=parameters, y=scores, customdata=numbers, mode="lines+markers", hovertemplate=template, **style
    )
