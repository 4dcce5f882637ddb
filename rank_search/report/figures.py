"""The figures of a report, drawn with matplotlib, each into a figure of its own."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from rank_search.analysis.trials import scored
from rank_search.core.rivals import UNIFORM
from rank_search.report.curves import best_uniform_label, shown_differences, thinned, training_minutes
from rank_search.report.marks import BLUE, FAINTEST, MARKS, ORANGE, RED, thousands

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes

    from rank_search.analysis.trials import ScoredTrial
    from rank_search.report.summary import Summary

_GREY = "#555555"
_STYLE = Path(__file__).with_name("style.mplstyle")


def write_figures(summary: Summary, folder: Path) -> list[Path]:
    """Draws every figure that there is something to draw in into a folder; returns the PNG files."""
    figures = drawn(summary)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
    figures["pareto"].savefig(folder / "pareto.svg", metadata={"Date": None})
    return [folder / f"{name}.png" for name in figures]


def styled(settings: Mapping[str, Any] | None = None) -> AbstractContextManager[None]:
    """Within it figures are drawn and saved in the style of ``style.mplstyle``.

    Args:
        settings: matplotlib's, above those.
    """
    return mpl.style.context([_STYLE, dict(settings or {})])


class StyledFigure(Figure):
    """A figure that is saved, and shown in notebooks, in the style in which it was drawn."""

    def savefig(self, *arguments: Any, **options: Any) -> None:
        """See matplotlib's own."""
        with styled():
            super().savefig(*arguments, **options)

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()


def names_of(summary: Summary) -> list[str]:
    """Figures that there is something to draw in."""
    missing = "differences" if shown_differences(summary).empty else None
    return [name for name in _DRAWINGS if name != missing]


def drawn(
    summary: Summary, names: Collection[str] = (), style: Mapping[str, Any] | None = None
) -> dict[str, StyledFigure]:
    """Figures by name.

    Args:
        summary: the study.
        names: of those that are wanted; all that there is something to draw in by default.
        style: matplotlib's settings, above those of ``style.mplstyle``.
    """
    figures = {}
    with styled(style):
        for name in names or names_of(summary):
            figures[name] = StyledFigure(layout="constrained")
            _DRAWINGS[name](figures[name].subplots(), summary)
    return figures


def _differences(axes: Axes, summary: Summary) -> None:
    """Paired difference to the best uniform map, with its 95 % interval, against trainable parameters.

    The band is the margin: a map whose interval ends inside it is as good.
    """
    rows = shown_differences(summary)
    margin = summary.evidence.margin
    axes.axhspan(-margin, 0, color=_GREY, alpha=0.15, lw=0, label=f"margin, {margin:.4f}")
    axes.axhline(0, color=_GREY, lw=1)
    for kind, mark in MARKS.items():
        own = rows[rows["kind"] == kind]
        if len(own):
            parameters, differences = own["trainable_parameters"].astype(float), own["difference"].astype(float)
            bars = np.abs([own["difference_low"] - differences, own["difference_high"] - differences]).astype(float)
            style: dict[str, Any] = {"ecolor": (*mpl.colors.to_rgb(mark.colour), 0.5), "elinewidth": 1, "mew": 0}
            axes.errorbar(
                parameters, differences, yerr=bars, fmt=mark.symbol, color=mark.colour, ms=6, label=mark.label, **style
            )
    chosen = rows[rows["number"] == summary.chosen.number]
    ring: dict[str, Any] = {"marker": "o", "ms": 14, "mfc": "none", "mec": RED, "mew": 2, "ls": "none"}
    axes.plot(
        chosen["trainable_parameters"].astype(float),
        chosen["difference"].astype(float),
        label=f"chosen: trial {summary.chosen.number} ({summary.rule})",
        **ring,
    )
    price_axis(axes)
    _uniform_axis(axes, summary.evidence.uniform)
    axes.set_xlabel("trainable parameters (log scale)")
    axes.set_ylabel(best_uniform_label(summary))
    axes.set_title(f"{summary.name}: what maps gain or lose, with 95 % intervals")
    columns = 3 if _width(axes) > 5 else 2
    axes.figure.legend(loc="outside lower center", ncols=columns, fontsize="small")


def _pareto(axes: Axes, summary: Summary) -> None:
    """Score against trainable parameters; rank 0 everywhere, which has none, as a line.

    Maps are the fainter the less likely they stand on the front.
    """
    adapted = summary.maps[summary.maps["trainable_parameters"] > 0]
    for kind, mark in MARKS.items():
        rows = adapted[adapted["kind"] == kind]
        if len(rows):
            opacity = FAINTEST + (1 - FAINTEST) * rows["front_probability"].to_numpy(dtype=float)
            colours = [(*mpl.colors.to_rgb(mark.colour), float(share)) for share in opacity]
            parameters = rows["trainable_parameters"].astype(float)
            axes.scatter(parameters, rows["score"], marker=mark.symbol, c=colours, s=36, zorder=3)
            axes.plot([], [], mark.symbol, color=mark.colour, label=mark.label)
    steps = summary.front[summary.front["trainable_parameters"] > 0]
    axes.step(
        steps["trainable_parameters"].astype(float), steps["score"], where="post", color=_GREY, lw=1.2, label="front"
    )
    for trial in scored(summary.maps).values():
        if trial.trainable_parameters == 0:
            axes.axhline(trial.score, color=_GREY, ls="--", lw=1, label="rank 0 everywhere")
    chosen = summary.chosen
    if chosen.trainable_parameters > 0:
        label = f"chosen: trial {chosen.number} ({summary.rule})"
        ring: dict[str, Any] = {"marker": "o", "ms": 14, "mfc": "none", "mec": RED, "mew": 2, "ls": "none"}
        axes.plot([chosen.trainable_parameters], [chosen.score], label=label, **ring)
    if len(adapted):
        price_axis(axes)
        _uniform_axis(axes, [trial for trial in scored(adapted).values() if trial.kind == UNIFORM])
    axes.set_xlabel("trainable parameters (log scale)")
    axes.set_ylabel(f"{summary.metadata.config['task']['metric']}, validation")
    axes.set_title(f"{summary.name}: score against trainable parameters of {len(summary.maps)} maps")
    columns = 3 if _width(axes) > 5 else 2
    axes.figure.legend(loc="outside lower center", ncols=columns, fontsize="small")


def _width(axes: Axes) -> float:
    """Of the whole figure, in inches."""
    figure = axes.get_figure(root=True)
    return figure.get_figwidth() if figure else 0.0


def price_axis(axes: Axes) -> None:
    """Parameters on a log scale, with as many labels as there is room for."""
    axes.set_xscale("log")
    low, high = np.log10(axes.get_xlim())
    subs = (1, 2, 5) if 3 * (high - low) < 2 * _width(axes) else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: thousands(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _uniform_axis(axes: Axes, uniform: Sequence[ScoredTrial]) -> None:
    """Names the uniform ranks above their parameters, where they are in nobody's way."""
    low, high = np.log10(axes.get_xlim())
    least = 0.35 / _width(axes) * (high - low)  # a third of an inch
    named: list[ScoredTrial] = []
    for trial in sorted(uniform, key=lambda trial: trial.trainable_parameters):
        if not named or np.log10(trial.trainable_parameters / named[-1].trainable_parameters) > least:
            named.append(trial)
    top = axes.secondary_xaxis("top")
    top.set_xticks(
        [trial.trainable_parameters for trial in named], [f"r={trial.top_rank}" for trial in named], fontsize="small"
    )
    top.xaxis.set_minor_locator(NullLocator())
    top.tick_params(colors=ORANGE)


def _rank_heatmap(axes: Axes, summary: Summary) -> None:
    """Rank of each dimension (rows) in each map of the front (columns, by ascending parameters)."""
    dimensions = summary.metadata.space.dimensions
    maps = summary.front["ranks"].tolist()
    # Of a map outside the space the modules of a dimension may differ: then it is their mean.
    ranks = np.array(
        [[np.mean([ranks[name] for name in modules]) for ranks in maps] for modules in dimensions.values()]
    )
    ladder = sorted({*summary.metadata.space.ladder, math.ceil(ranks.max(initial=0))})
    # Colour by the rung, not the rank, so that 1 and 2 look as far apart as 8 and 16.
    rungs = np.interp(ranks, ladder, range(len(ladder)))
    image = axes.imshow(rungs, aspect="auto", cmap="viridis", vmin=0, vmax=max(1, len(ladder) - 1))
    if ranks.size <= 400:
        for (row, column), rank in np.ndenumerate(ranks):
            ink = "black" if rungs[row, column] > (len(ladder) - 1) * 0.6 else "white"
            axes.text(column, row, f"{rank:.2g}", ha="center", va="center", fontsize=8, color=ink)
    shown = max(1, round(1.5 * len(maps) / _width(axes)))
    labels = [
        f"{number}\n{thousands(float(parameters))}"
        for number, parameters in zip(summary.front["number"], summary.front["trainable_parameters"], strict=True)
    ]
    numbers = summary.front["number"].tolist()
    chosen = numbers.index(summary.chosen.number) if summary.chosen.number in numbers else 0
    places = range(chosen % shown, len(maps), shown)  # the chosen one among them
    axes.set_xticks(places, [labels[place] for place in places], fontsize=8)
    for tick, place in zip(axes.get_xticklabels(), places, strict=True):
        if numbers[place] == summary.chosen.number:
            tick.set_color(RED)
            tick.set_fontweight("bold")
    thinned_rows = 1 + len(dimensions) // 40
    axes.set_yticks(
        range(0, len(dimensions), thinned_rows), list(dimensions)[::thinned_rows], fontsize=_row_font(len(dimensions))
    )
    axes.grid(visible=False)
    axes.set_xlabel("trial and its trainable parameters; the chosen one in colour")
    axes.set_title("Ranks of the maps on the front")
    bar = axes.figure.colorbar(image, ax=axes, ticks=range(len(ladder)))
    bar.ax.set_yticklabels([str(rank) for rank in ladder])
    bar.set_label("rank")


def _hypervolume(axes: Axes, summary: Summary) -> None:
    """Hypervolume after each trial, with the first map that was searched marked."""
    numbers = summary.trials["number"]
    axes.step(numbers + 1, summary.hypervolume, where="post", color=BLUE)
    searched = numbers[~summary.trials["kind"].str.startswith("baseline:")]
    if len(searched) and searched.iloc[0] > 0:
        axes.axvline(searched.iloc[0], color=_GREY, ls="--", lw=1)
        axes.annotate(" search starts", (searched.iloc[0], axes.get_ylim()[0]), va="bottom", fontsize=8, color=_GREY)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trials")
    _label_hypervolume(axes, summary)


def _hypervolume_seconds(axes: Axes, summary: Summary) -> None:
    """Hypervolume against what was trained until then."""
    axes.step(training_minutes(summary.trials), summary.hypervolume, where="post", color=BLUE)
    axes.set_xlabel("minutes of training and evaluation")
    _label_hypervolume(axes, summary)


def _label_hypervolume(axes: Axes, summary: Summary) -> None:
    axes.set_ylabel("hypervolume (score × parameters)")
    axes.set_title(f"Hypervolume against ({summary.reference[0]:.4f}, {summary.reference[1]:,.0f})")


def _losses(axes: Axes, summary: Summary) -> None:
    """Training loss of the chosen map and its rivals, each a mean over a few steps."""
    drawn = {
        compared.trial: compared.role for compared in reversed(summary.compared) if summary.losses.get(compared.trial)
    }
    for number, role in reversed(drawn.items()):
        axes.plot(*zip(*thinned(summary.losses[number]), strict=True), label=f"trial {number}, {role}")
    if drawn:
        axes.legend()
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")


def _importance(axes: Axes, summary: Summary) -> None:
    """Share of each dimension in reaching the front."""
    axes.set_title("Importance for reaching the front (PED-ANOVA)")
    if not summary.importance:
        axes.axis("off")
        axes.text(0.5, 0.5, "too few trials to say", ha="center", va="center", transform=axes.transAxes)
        return
    largest = list(summary.importance.items())[:30]
    names = [name for name, _ in reversed(largest)]
    axes.barh(names, [summary.importance[name] for name in names], color=BLUE)
    axes.tick_params(axis="y", labelsize=_row_font(len(names)))
    axes.set_xlabel("share")


def _row_font(rows: int) -> float:
    """Points of a font in which so many labels stand one above the other."""
    return max(4.0, min(9.0, 240 / rows))


_DRAWINGS = {
    "differences": _differences,
    "pareto": _pareto,
    "rank_heatmap": _rank_heatmap,
    "hypervolume": _hypervolume,
    "hypervolume_seconds": _hypervolume_seconds,
    "importance": _importance,
    "losses": _losses,
}
