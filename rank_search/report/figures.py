"""The figures of a report, drawn with matplotlib, each into a figure of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from rank_search.analysis.trials import complete, scored
from rank_search.search.baselines import KINDS, UNIFORM
from rank_search.search.nested import CONFIRM
from rank_search.search.plan import SEARCH

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from rank_search.analysis.trials import ScoredTrial
    from rank_search.report.summary import Summary

# Okabe & Ito's palette: distinct to colour-blind readers.
_BLUE, _ORANGE, _RED, _GREY = "#0072B2", "#E69F00", "#D55E00", "#555555"
_GREEN, _PINK, _SKY = "#009E73", "#CC79A7", "#56B4E9"
_MAPS = {
    SEARCH: ("o", _BLUE, "searched map"),
    CONFIRM: ("D", _BLUE, "map of the nested front"),
    UNIFORM: ("s", _ORANGE, "uniform rank"),
}
_OUTSIDE = {
    KINDS["svd"]: ("v", _GREEN, "SVD of one large training"),
    KINDS["eva"]: ("P", _PINK, "EVA"),
    KINDS["adalora"]: ("X", _SKY, "AdaLoRA"),
}
_FAINTEST = 0.25  # opacity of a map that is sure not to stand on the front
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.hashsalt": "rank_search",
    "svg.fonttype": "none",
}


def write_figures(summary: Summary, folder: Path) -> list[str]:
    """Draws every figure into a folder and returns the names of the PNG files."""
    drawings = {
        "pareto": _pareto,
        "rank_heatmap": _rank_heatmap,
        "hypervolume": _hypervolume,
        "importance": _importance,
    }
    with mpl.rc_context(_STYLE):
        for name, draw in drawings.items():
            figure = Figure(figsize=(7.5, 4.8), layout="constrained")
            draw(figure.subplots(), summary)
            figure.savefig(folder / f"{name}.png", dpi=160)
            if name == "pareto":
                figure.savefig(folder / "pareto.svg", metadata={"Date": None})
    return [f"{name}.png" for name in drawings]


def _pareto(axes: Axes, summary: Summary) -> None:
    """Score ± standard error against trainable parameters; rank 0 everywhere, which has none, as a line.

    Maps are the fainter the less likely they stand on the front.
    """
    adapted = summary.maps[summary.maps["trainable_parameters"] > 0]
    for kind, (marker, colour, label) in _MAPS.items():
        rows = adapted[adapted["kind"] == kind]
        if len(rows):
            opacity = _FAINTEST + (1 - _FAINTEST) * rows["front_probability"].to_numpy(dtype=float)
            colours = [(*mpl.colors.to_rgb(colour), float(share)) for share in opacity]
            prices = rows["trainable_parameters"].astype(float)
            axes.errorbar(prices, rows["score"], yerr=rows["score_se"], fmt="none", ecolor=colours, lw=1)  # type: ignore[arg-type]
            axes.scatter(prices, rows["score"], marker=marker, c=colours, s=36, zorder=3)
            axes.plot([], [], marker, color=colour, label=f"{label} ± standard error")
    outside = complete(summary.trials[summary.trials["baseline"].notna()])
    for kind, (marker, colour, label) in _OUTSIDE.items():
        rows = outside[outside["kind"] == kind]
        if len(rows):
            prices = rows["trainable_parameters"].astype(float)
            axes.plot(prices, rows["score"], marker, color=colour, ms=6, mew=0, label=label)
    steps = summary.front[summary.front["trainable_parameters"] > 0]
    axes.step(
        steps["trainable_parameters"].astype(float), steps["score"], where="post", color=_GREY, lw=1.2, label="front"
    )
    for trial in scored(summary.maps).values():
        if trial.trainable_parameters == 0:
            axes.axhline(trial.score, color=_GREY, ls="--", lw=1, label="rank 0 everywhere")
        elif trial.kind == UNIFORM:
            _label(axes, trial, f"r={trial.top_rank}", -12, _ORANGE)
    _mark_choice(axes, summary)
    if len(adapted) or len(outside):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("trainable parameters (log scale)")
    axes.set_ylabel(f"{summary.record.config['task']['metric']}, validation")
    axes.set_title(f"{summary.name}: score against price of {len(summary.maps)} maps")
    axes.figure.legend(loc="outside lower center", ncols=3, fontsize=8)


def _mark_choice(axes: Axes, summary: Summary) -> None:
    chosen = summary.chosen
    if chosen.trainable_parameters == 0:
        return
    axes.plot(
        [chosen.trainable_parameters],
        [chosen.score],
        marker="o",
        ms=14,
        mfc="none",
        mec=_RED,
        mew=2,
        ls="none",
        label=f"chosen ({summary.rule})",
    )
    _label(axes, chosen, f"trial {chosen.number}", 12, _RED)


def _label(axes: Axes, trial: ScoredTrial, text: str, above: int, colour: str) -> None:
    axes.annotate(
        text,
        (trial.trainable_parameters, trial.score),
        xytext=(0, above),
        textcoords="offset points",
        ha="center",
        va="bottom" if above > 0 else "top",
        color=colour,
        fontsize=8,
        fontweight="bold",
    )


def _thousands(value: float, _position: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


def _rank_heatmap(axes: Axes, summary: Summary) -> None:
    """Rank of each dimension (rows) in each map of the front (columns, by ascending parameters)."""
    dimensions = summary.record.space.dimensions
    ladder = list(summary.record.space.ladder)
    maps = summary.front["ranks"].tolist()
    ranks = np.array([[of[modules[0]] for of in maps] for modules in dimensions.values()])
    # Colour by the rung, not the rank, so that 1 and 2 look as far apart as 8 and 16.
    rungs = np.vectorize(ladder.index)(ranks)
    image = axes.imshow(rungs, aspect="auto", cmap="viridis", vmin=0, vmax=max(1, len(ladder) - 1))
    if ranks.size <= 400:
        for (row, column), rank in np.ndenumerate(ranks):
            light = rungs[row, column] > (len(ladder) - 1) * 0.6
            axes.text(column, row, str(rank), ha="center", va="center", fontsize=8, color="black" if light else "white")
    shown = max(1, len(maps) // 12)
    labels = [
        f"{number}\n{_thousands(float(parameters), 0)}"
        for number, parameters in zip(summary.front["number"], summary.front["trainable_parameters"], strict=True)
    ]
    axes.set_xticks(range(0, len(maps), shown), labels[::shown], fontsize=8)
    for tick, number in zip(axes.get_xticklabels(), summary.front["number"].tolist()[::shown], strict=True):
        if number == summary.chosen.number:
            tick.set_color(_RED)
            tick.set_fontweight("bold")
    axes.set_yticks(range(len(dimensions)), list(dimensions), fontsize=max(4, min(9, 240 // len(dimensions))))
    axes.grid(visible=False)
    axes.set_xlabel("trial and its trainable parameters; the chosen one in colour")
    axes.set_title("Ranks of the maps on the front")
    bar = axes.figure.colorbar(image, ax=axes, ticks=range(len(ladder)))
    bar.ax.set_yticklabels([str(rank) for rank in ladder])
    bar.set_label("rank")


def _hypervolume(axes: Axes, summary: Summary) -> None:
    """Hypervolume after each trial, with the first map that was searched marked."""
    numbers = summary.trials["number"]
    axes.step(numbers + 1, summary.hypervolume, where="post", color=_BLUE)
    searched = numbers[~summary.trials["kind"].str.startswith("baseline:")]
    if len(searched) and searched.iloc[0] > 0:
        axes.axvline(searched.iloc[0], color=_GREY, ls="--", lw=1)
        axes.annotate(" search starts", (searched.iloc[0], axes.get_ylim()[0]), va="bottom", fontsize=8, color=_GREY)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trials")
    axes.set_ylabel("hypervolume (score × parameters)")
    axes.set_title(f"Hypervolume against ({summary.reference[0]:.4f}, {summary.reference[1]:,.0f})")


def _importance(axes: Axes, summary: Summary) -> None:
    """Share of each dimension in reaching the front."""
    axes.set_title("Importance for reaching the front (PED-ANOVA)")
    if not summary.importance:
        axes.axis("off")
        axes.text(0.5, 0.5, "too few trials to tell", ha="center", va="center", transform=axes.transAxes)
        return
    largest = list(summary.importance.items())[:30]
    names = [name for name, _ in reversed(largest)]
    axes.barh(names, [summary.importance[name] for name in names], color=_BLUE)
    axes.tick_params(axis="y", labelsize=max(5, min(9, 240 // len(names))))
    axes.set_xlabel("share")
