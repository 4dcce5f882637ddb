"""The figures of the page, as data for plotly."""

import math

import pytest

from rank_search.report.html import as_json
from rank_search.report.interactive import empty, figures
from rank_search.report.marks import FAINTEST, MARKS
from tests.analysis.conftest import SVD, TRIALS, UNIFORM, table
from tests.report.conftest import summary_of

SUMMARY = summary_of(TRIALS)
FRONT = [5, 2, 4, 3]  # trials above the untrained model, by ascending parameters


def traces(figure, **wanted) -> list:
    """Those with a property, such as ``name="front"``."""
    return [trace for trace in figure.data if all(getattr(trace, name) == value for name, value in wanted.items())]


def points(figure) -> dict[int, tuple[float, float]]:
    """Trial → its place, for the marks that can be pointed at."""
    return {
        number: (x, y)
        for trace in figure.data
        if trace.customdata is not None
        for number, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }


def lines(figure, axis: str) -> list[float]:
    """Where straight lines across the plot stand on an axis."""
    return [shape[f"{axis}0"] for shape in figure.layout.shapes]


def notes(figure) -> list[str]:
    return [note.text for note in figure.layout.annotations]


def test_figures_with_nothing_to_draw_are_left_out() -> None:
    always = {"differences", "pareto", "hypervolume", "hypervolume_seconds", "losses"}
    assert figures(SUMMARY).keys() == always
    more = summary_of(TRIALS, importance={"w": 1.0})
    assert figures(more).keys() == {*always, "importance"}
    alone = summary_of(table((0.5, 10)))  # there is no uniform map to compare with
    assert "differences" not in figures(alone)


def test_every_figure_is_json() -> None:
    more = summary_of(TRIALS, importance={"w": 1.0})
    assert as_json({name: figure.to_plotly_json() for name, figure in figures(more).items()})


def test_every_map_and_baseline_stands_at_its_parameters_and_score() -> None:
    places = points(figures(SUMMARY)["pareto"])
    rows = TRIALS[TRIALS["trainable_parameters"] > 0]
    expected = zip(rows["trainable_parameters"], rows["score"], strict=True)
    assert places == dict(zip(rows["number"], expected, strict=True))


def test_differences_are_to_the_best_uniform_map_with_the_margin_as_a_band() -> None:
    figure = figures(SUMMARY)["differences"]
    assert figure.layout.yaxis.title.text == "ndcg@10 minus that of uniform rank 4, in pairs"
    places = points(figure)
    assert places[3] == (40, 0.0)
    assert places[5][1] == pytest.approx(-0.03)
    assert places.keys() >= {1, 2, 3, SUMMARY.chosen.number, 6, 7, 8}  # the ladder, the choice, rivals outside
    band, zero = figure.layout.shapes
    assert (band.y0, band.y1, zero.y0) == (-0.015, 0, 0)
    (marks,) = traces(figure, name=MARKS["search"].label)
    assert all(high > 0 < low for high, low in zip(marks.error_y.array, marks.error_y.arrayminus, strict=True))


def test_axes_of_the_front_name_what_they_show() -> None:
    layout = figures(SUMMARY)["pareto"].layout
    assert (layout.xaxis.type, layout.xaxis.title.text) == ("log", "trainable parameters")
    assert layout.yaxis.title.text == "ndcg@10, validation"


def test_the_front_is_a_staircase_through_its_maps() -> None:
    figure = figures(SUMMARY)["pareto"]
    (line,) = traces(figure, name="front")
    places = points(figure)
    assert list(zip(line.x, line.y, strict=True)) == [places[number] for number in FRONT]
    assert line.line.shape == "hv"


@pytest.mark.parametrize(("kind", "mark"), [*MARKS.items()], ids=lambda value: value if isinstance(value, str) else "")
def test_every_kind_has_its_mark_once_in_the_legend(kind, mark) -> None:
    figure = figures(summary_of(table((0.5, 10), (0.6, 20), (0.7, 30), kinds=[UNIFORM, kind, kind])))["pareto"]
    (entry,) = traces(figure, name=mark.label)
    assert (entry.marker.symbol, entry.marker.color, entry.marker.opacity) == (mark.web, mark.colour, None)
    (marks,) = [trace for trace in traces(figure, legendgroup=mark.label) if trace.customdata is not None]
    assert (marks.marker.symbol, marks.marker.color, marks.showlegend) == (mark.web, mark.colour, False)
    others = {other.label for other in MARKS.values() if other not in (mark, MARKS[UNIFORM])}
    assert not others & {trace.name for trace in figure.data}


def test_maps_are_the_fainter_the_less_likely_they_stand_on_the_front() -> None:
    trials = table((0.5, 10), (0.6, 20), (0.7, 30))
    maps = summary_of(trials).maps.assign(front_probability=[0.0, 0.5, 1.0])
    (marks,) = [trace for trace in figures(summary_of(trials, maps=maps))["pareto"].data if trace.customdata]
    assert marks.marker.opacity == (FAINTEST, (1 + FAINTEST) / 2, 1.0)
    assert marks.error_y.array is None  # bars of scores would mislead: maps are compared in pairs


def test_failed_trials_are_not_drawn() -> None:
    trials = table((0.5, 10), (0.9, 5), (0.9, 5), kinds=["search", SVD, "search"], states=["COMPLETE", "FAIL", "FAIL"])
    assert points(figures(summary_of(trials))["pareto"]).keys() == {0}


def test_the_untrained_model_is_a_line_as_a_log_axis_has_no_zero() -> None:
    figure = figures(SUMMARY)["pareto"]
    assert lines(figure, "y") == [0.5]
    assert "rank 0 everywhere" in notes(figure)
    without = figures(summary_of(table((0.5, 10))))["pareto"]
    assert lines(without, "y") == []


def test_uniform_ranks_are_named_above_the_plot() -> None:
    labels = {note.text: note.x for note in figures(SUMMARY)["pareto"].layout.annotations if note.yref == "paper"}
    assert labels == {"r=1": math.log10(10), "r=2": math.log10(20), "r=4": math.log10(40)}


def test_hypervolume_grows_trial_by_trial() -> None:
    figure = figures(SUMMARY)["hypervolume"]
    (curve,) = figure.data
    assert list(curve.x) == list(range(1, 10))
    assert list(curve.y) == list(SUMMARY.hypervolume)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([UNIFORM, UNIFORM, "search"], [2.5]),
        ([UNIFORM, "search", UNIFORM], [1.5]),
        ([SVD, UNIFORM, "search"], [2.5]),
        (["search", UNIFORM, "search"], []),
        ([UNIFORM, UNIFORM, UNIFORM], []),
    ],
)
def test_a_line_says_where_the_search_starts(kinds, expected) -> None:
    figure = figures(summary_of(table((0.5, 10), (0.6, 20), (0.7, 30), kinds=kinds)))["hypervolume"]
    assert lines(figure, "x") == expected
    assert notes(figure) == ["search starts"] * len(expected)


def test_hypervolume_against_minutes_counts_failed_trials_too() -> None:
    trials = table((0.5, 10), (0.9, 5), (0.6, 20), states=["COMPLETE", "FAIL", "COMPLETE"])
    figure = figures(summary_of(trials.assign(seconds=[60.0, 30.0, 90.0])))["hypervolume_seconds"]
    (curve,) = figure.data
    assert list(curve.x)[-3:] == [1.0, 1.5, 3.0]
    assert list(curve.y)[-3:] == list(summary_of(trials).hypervolume)


def test_losses_are_left_to_the_page() -> None:
    assert figures(SUMMARY)["losses"].data == ()


def test_the_most_important_dimension_is_on_top() -> None:
    """Plotly draws the first bar at the bottom."""
    (bars,) = figures(summary_of(TRIALS, importance={"b": 0.7, "a": 0.3}))["importance"].data
    assert (list(bars.y), list(bars.x), bars.orientation) == (["a", "b"], [0.3, 0.7], "h")


def test_an_empty_figure_leaves_its_colours_to_the_page() -> None:
    layout = empty("step", "loss", height=123).layout
    assert (layout.xaxis.title.text, layout.yaxis.title.text, layout.height) == ("step", "loss", 123)
    assert (layout.paper_bgcolor, layout.plot_bgcolor) == ("rgba(0,0,0,0)", "rgba(0,0,0,0)")
    assert empty("step", "loss").layout.height == 300
