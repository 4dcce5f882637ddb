"""The figures of the page, as plotly draws them: what is plain to see is set here, what moves is in ``page.js``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from rank_search.analysis.trials import scored
from rank_search.core.rivals import UNIFORM
from rank_search.report.curves import best_uniform_label, shown_differences, training_minutes
from rank_search.report.marks import BLUE, FAINTEST, MARKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from rank_search.report.marks import Mark
    from rank_search.report.summary import Summary

_GREY = "#888888"  # to be seen on white and on black


def figures(summary: Summary) -> dict[str, go.Figure]:
    """The figures by the name of their place on the page; one that there is nothing to draw in is left out."""
    drawn = {} if shown_differences(summary).empty else {"differences": _differences(summary)}
    drawn |= {
        "pareto": _front(summary),
        "hypervolume": _hypervolume(summary),
        "hypervolume_seconds": _hypervolume_seconds(summary),
        "losses": _losses(),
    }
    if summary.importance:
        drawn["importance"] = _importance(summary.importance)
    return drawn


def empty(x: str, y: str, **layout: object) -> go.Figure:
    """An empty figure; its colours are those of the page."""
    figure = go.Figure(layout={"template": go.layout.Template(), "hovermode": "closest", "height": 300, **layout})
    figure.update_layout(margin={"l": 10, "r": 10, "t": 10, "b": 10})
    figure.update_layout(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    figure.update_xaxes(title=x, automargin=True, zeroline=False)
    return figure.update_yaxes(title=y, automargin=True, zeroline=False)


def _differences(summary: Summary) -> go.Figure:
    """Paired difference to the best uniform map, with its 95 % interval; the band is the margin."""
    figure = empty("trainable parameters", best_uniform_label(summary), height=420)
    figure.update_xaxes(type="log", dtick="D2", tickformat="~s")
    rows = shown_differences(summary)
    figure.add_hrect(-summary.evidence.margin, 0, fillcolor=_GREY, opacity=0.2, line_width=0)
    figure.add_hline(0, line={"color": _GREY, "width": 1})
    for kind, mark in MARKS.items():
        own = rows[rows["kind"] == kind]
        if len(own):
            difference = own["difference"].astype(float)
            figure.add_scatter(
                x=own["trainable_parameters"].astype(float).tolist(),
                y=difference.tolist(),
                customdata=own["number"].tolist(),
                mode="markers",
                name=mark.label,
                marker={"symbol": mark.web, "color": mark.colour, "size": 9},
                error_y={
                    "array": (own["difference_high"].astype(float) - difference).tolist(),
                    "arrayminus": (difference - own["difference_low"].astype(float)).tolist(),
                    "thickness": 1,
                    "width": 0,
                    "color": f"{mark.colour}80",
                },
                hoverinfo="none",
            )
    _add_ladder(figure, summary.maps[(summary.maps["kind"] == UNIFORM) & (summary.maps["trainable_parameters"] > 0)])
    return figure


def _front(summary: Summary) -> go.Figure:
    """Score against trainable parameters: every map and baseline, and the front.

    Maps are the fainter the less likely they stand on the front. Rank 0 everywhere, which has no place on a log axis,
    is a line.
    """
    metric = summary.metadata.config["task"]["metric"]
    figure = empty("trainable parameters", f"{metric}, validation", height=480)
    figure.update_xaxes(type="log", dtick="D2", tickformat="~s")
    adapted = summary.maps[summary.maps["trainable_parameters"] > 0]
    for kind, mark in MARKS.items():
        _add_points(figure, adapted[adapted["kind"] == kind], mark)
    steps = summary.front[summary.front["trainable_parameters"] > 0]
    line = {"shape": "hv", "color": _GREY, "width": 1}
    parameters = steps["trainable_parameters"].tolist()
    figure.add_scatter(x=parameters, y=steps["score"].tolist(), mode="lines", line=line, name="front", hoverinfo="skip")
    _add_ladder(figure, adapted[adapted["kind"] == UNIFORM])
    for trial in scored(summary.maps).values():
        if trial.trainable_parameters == 0:
            note = {"annotation_text": "rank 0 everywhere", "annotation_position": "bottom left"}
            figure.add_hline(trial.score, line={"dash": "dash", "color": _GREY, "width": 1}, **note)
    return figure


def _add_ladder(figure: go.Figure, uniform: pd.DataFrame) -> None:
    """The uniform ranks, above the plot, where no mark can lie on them."""
    for ranks, parameters in zip(uniform["ranks"], uniform["trainable_parameters"].astype(float), strict=True):
        place = {"x": math.log10(parameters), "y": 1, "yref": "paper", "yanchor": "bottom"}
        figure.add_annotation(**place, text=f"r={max(ranks.values())}", showarrow=False)
    figure.update_layout(legend={"y": 1.06})


def _add_points(figure: go.Figure, rows: pd.DataFrame, mark: Mark) -> None:
    """Maps of one kind, each with its trial's number as ``customdata``."""
    if rows.empty:
        return
    sure = rows["front_probability"].fillna(1.0).to_numpy(dtype=float)
    shown = {"symbol": mark.web, "color": mark.colour, "size": 9}
    figure.add_scatter(
        x=rows["trainable_parameters"].astype(float).tolist(),
        y=rows["score"].tolist(),
        customdata=rows["number"].tolist(),
        mode="markers",
        marker={**shown, "opacity": (FAINTEST + (1 - FAINTEST) * sure).round(2).tolist()},
        legendgroup=mark.label,
        showlegend=False,
        hoverinfo="none",
    )
    # In the legend by themselves, where they would be as faint as the first map.
    figure.add_scatter(x=[None], y=[None], mode="markers", marker=shown, legendgroup=mark.label, name=mark.label)


def _hypervolume(summary: Summary) -> go.Figure:
    figure = empty("trials", "hypervolume (score × parameters)")
    numbers = summary.trials["number"]
    line = {"shape": "hv", "color": BLUE}
    figure.add_scatter(x=(numbers + 1).tolist(), y=list(summary.hypervolume), mode="lines", line=line, showlegend=False)
    searched = numbers[~summary.trials["kind"].str.startswith("baseline:")]
    if len(searched) and searched.iloc[0] > 0:
        figure.add_vline(
            int(searched.iloc[0]) + 0.5,
            line={"dash": "dash", "color": _GREY, "width": 1},
            annotation_text="search starts",
        )
    return figure


def _hypervolume_seconds(summary: Summary) -> go.Figure:
    """Hypervolume against what was trained until then, a pack's seconds shared out."""
    figure = empty("minutes of training and evaluation", "hypervolume (score × parameters)")
    minutes = training_minutes(summary.trials)
    line = {"shape": "hv", "color": BLUE}
    figure.add_scatter(x=minutes.round(3).tolist(), y=list(summary.hypervolume), mode="lines", line=line)
    return figure


def _losses() -> go.Figure:
    """An empty figure: which maps' losses are shown follows from what is chosen and pinned."""
    return empty("step", "training loss")


def _importance(shares: Mapping[str, float]) -> go.Figure:
    names = list(shares)[::-1]
    figure = empty("share", "", height=max(240, 60 + 18 * len(names)))
    return figure.add_bar(x=[shares[name] for name in names], y=names, orientation="h", marker={"color": BLUE})
