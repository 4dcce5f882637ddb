"""Figures on the page and on paper."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from rank_search.analysis.front import front
from rank_search.analysis.trials import scored
from rank_search.report.figures import drawn
from rank_search.report.page import write_report
from rank_search.report.summary import summarise

pytestmark = pytest.mark.slow


def summary_of(bench, count: int):
    """A summary whose maps are so many, over four decades of parameters."""
    bench.search(12)
    summary = summarise(bench.handle())
    draw = np.random.default_rng(0)
    rows = summary.maps.sample(count, replace=True, random_state=0).reset_index(drop=True)
    prices = np.sort(10 ** draw.uniform(3, 7, count)).astype(int)
    maps = rows.assign(
        number=range(count),
        trainable_parameters=pd.array(prices, dtype="Int64"),
        score=0.5 + 0.1 * np.log10(prices) / 7 + draw.normal(0, 0.01, count),
        kind=np.where(np.arange(count) % 3 == 0, "baseline:uniform", "search"),
    )
    on_front = list(scored(front(maps)).values())
    trials = shown_trials(maps, draw)
    return replace(summary, maps=maps, trials=trials, front=front(maps), chosen=on_front[len(on_front) // 2])


def shown_trials(maps: pd.DataFrame, draw: np.random.Generator) -> pd.DataFrame:
    """Trials of these maps, each with a difference to the best uniform one."""
    differences = draw.normal(0, 0.01, len(maps))
    return maps.assign(difference=differences, difference_low=differences - 0.02, difference_high=differences + 0.02)


def beyond(axes) -> set[int]:
    """Labels of ticks beyond the ends of an axis, which are not drawn."""
    found = set()
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if not low <= tick.get_loc() <= high:
                found |= {id(tick.label1), id(tick.label2)}
    return found


def boxes(figure):
    """Boxes of all texts that are shown, once the figure is laid out."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    every = [*figure.axes, *(child for axes in figure.axes for child in axes.child_axes)]
    hidden = set().union(*map(beyond, every))
    texts = {id(text): text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()}
    shown = [(text.get_text(), text.get_window_extent(renderer)) for key, text in texts.items() if key not in hidden]
    return [(text, box) for text, box in shown if box.width > 0]


@pytest.mark.parametrize("count", [5, 500])
@pytest.mark.parametrize("style", [{}, {"figure.figsize": (3.4, 2.9), "font.size": 7}], ids=["page", "column"])
def test_labels_do_not_overlap(bench, count, style) -> None:
    figure = drawn(summary_of(bench, count), ["pareto"], style)["pareto"]
    if style:
        figure.axes[0].set_title("")
    found = boxes(figure)
    shown = figure.bbox
    inside = [
        (text, box) for text, box in found if box.x1 > 0 and box.x0 < shown.x1 and box.y1 > 0 and box.y0 < shown.y1
    ]
    assert len(inside) > 10
    overlaps = [(a, b) for (a, one), (b, other) in itertools.combinations(inside, 2) if one.overlaps(other)]
    assert overlaps == []


def test_paper_has_vector_figures_and_the_front(bench, tmp_path) -> None:
    bench.search(12)
    summary = write_report(bench.handle(), tmp_path / "report", paper=True)
    out = tmp_path / "report" / "paper"
    assert {path.name for path in out.iterdir()} == {"pareto.pdf", "rank_heatmap.pdf", "hypervolume.pdf", "front.tex"}
    for path in out.glob("*.pdf"):
        found = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", path.read_bytes())
        assert float(found[1]) == pytest.approx(3.4 * 72, abs=0.5)
        assert b"/Subtype /Image" not in path.read_bytes() or path.stem == "rank_heatmap"
    table = (out / "front.tex").read_text()
    for trial in summary.front.to_dict(orient="records"):
        starts = (f"{trial['number']} &", rf"\textbf{{{trial['number']}}}")
        (row,) = (line for line in table.splitlines() if line.startswith(starts))
        assert f"{trial['trainable_parameters']:,}" in row
        assert (r"\textbf" in row) == (trial["number"] == summary.chosen.number)
