"""How trials and ranks are drawn, and how names and counts are shortened."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import is_color_like, to_rgb
from matplotlib.markers import MarkerStyle
from plotly.validator_cache import ValidatorCache

from rank_search.core.rivals import Kind
from rank_search.report.marks import MARKS, PALETTE, rank_colours, short_names, thousands

RANKS = st.lists(st.integers(0, 256), min_size=1, max_size=12)
NAMES = st.lists(st.lists(st.sampled_from(["model", "layers", "0", "1", "q"]), min_size=1, max_size=4).map(".".join))


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colour: str, other: str) -> float:
    low, high = sorted([luminance(colour), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_every_kind_of_trial_has_one_mark() -> None:
    assert set(MARKS) == set(get_args(Kind))
    for field in ("symbol", "web", "label"):
        assert len({getattr(mark, field) for mark in MARKS.values()}) == len(MARKS)


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
def test_matplotlib_and_plotly_know_every_mark(mark) -> None:
    assert MarkerStyle(mark.symbol).is_filled()
    symbols = ValidatorCache.get_validator("scatter.marker", "symbol")
    assert symbols.validate_coerce(mark.web) == mark.web
    assert mark.colour in PALETTE


def test_colours_of_studies_differ() -> None:
    assert all(map(is_color_like, PALETTE))
    assert len(set(PALETTE)) == len(PALETTE)


@given(RANKS)
def test_higher_ranks_are_lighter(ranks) -> None:
    found = rank_colours(ranks)
    assert list(found) == sorted(set(ranks))
    lightness = [luminance(colour) for colour, _ in found.values()]
    assert lightness == sorted(lightness)


@given(RANKS)
def test_text_can_be_read_on_every_rank(ranks) -> None:
    for colour, text in rank_colours(ranks).values():
        other = "#ffffff" if text == "#000000" else "#000000"
        assert contrast(colour, text) >= contrast(colour, other)
        assert contrast(colour, text) >= 4.5  # WCAG's level AA


def test_ranks_are_coloured_by_their_magnitude_and_not_by_what_else_is_there() -> None:
    """1 and 2 differ as much as 8 and 16 do; a rank has the same colour whichever ranks lie below the top."""
    ladder, few = rank_colours([0, 1, 3, 7, 15]), rank_colours([3, 15])
    assert few == {rank: ladder[rank] for rank in (3, 15)}
    assert rank_colours([0]) == {0: ladder[0]}
    assert rank_colours([]) == {}
    # log₂(1 + 3) is half of log₂(1 + 15), so rank 3 has the colour that rank 1 has beside rank 3.
    assert ladder[3][0] == rank_colours([1, 3])[1][0]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.layers.0", "model.layers.1"], ["0", "1"]),
        (["encoder.layer.0", "encoder.layer.10", "pooler"], ["encoder.layer.0", "encoder.layer.10", "pooler"]),
        (["encoder.layer.0", "encoder.pooler"], ["layer.0", "pooler"]),
        (["model.layers.0"], ["model.layers.0"]),
        (["model", "model.model"], ["model", "model.model"]),
        (["layer.1", "layer.11"], ["1", "11"]),  # parts, not letters
        ([], []),
    ],
)
def test_names_lose_what_all_of_them_begin_with(names, expected) -> None:
    assert short_names(names) == dict(zip(names, expected, strict=True))


@given(NAMES)
def test_short_names_are_ends_of_the_names_and_stay_distinct(names) -> None:
    found = short_names(names)
    assert found.keys() == set(names)
    assert all(short and f".{name}".endswith(f".{short}") for name, short in found.items())
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1k"),
        (82_944, "82.9k"),
        (1_234_567, "1.23M"),
        (7e9, "7G"),
        (150_000, "150k"),
        (999_499, "999k"),
        (999_500, "1M"),
        (999_999_999, "1G"),
    ],
)
def test_counts_are_shown_by_three_digits(value, expected) -> None:
    assert thousands(value) == expected
