"""What the page's script works on."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rank_search.analysis.choice import choose
from rank_search.analysis.comparison import uniform_rival
from rank_search.analysis.trials import scored
from rank_search.core.choice import PLAIN_RULES, Rule
from rank_search.core.ranks import Shape
from rank_search.core.space import Space
from rank_search.report.html import as_json
from rank_search.report.page_data import page_data
from tests.analysis.conftest import SVD, TRIALS, UNIFORM, table
from tests.report.conftest import summary_of

SUMMARY = summary_of(TRIALS, kept={2, 4})
DATA = page_data(SUMMARY, "studies/small --storage URL")
MAPS = {found["number"]: found for found in DATA["maps"]}


def data_of(modules, *ranks):
    """The data of a study of these modules, whose maps have these ranks."""
    space = Space({name: Shape(4, 6) for name in modules}, {name: (name,) for name in modules}, (0, 1, 2, 4))
    trials = table(*((0.5, 10 * sum(values)) for values in ranks))
    trials = trials.assign(ranks=[dict(zip(modules, values, strict=True)) for values in ranks])
    return page_data(summary_of(trials, space), "small")


def test_maps_are_all_that_has_a_score() -> None:
    assert list(MAPS) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    trials = table((0.5, 10), (0.9, 5), (0.9, 5), kinds=[SVD, "search", SVD], states=["FAIL", "COMPLETE", "COMPLETE"])
    assert [found["number"] for found in page_data(summary_of(trials), "small")["maps"]] == [1, 2]


def test_a_map_of_the_space_is_called_by_its_kind_and_has_a_place_on_the_front() -> None:
    found = MAPS[4]
    assert (found["name"], found["score"], found["se"], found["seeds"]) == ("search", 0.71, 0.01, 1)
    assert (found["parameters"], found["ranks"], found["settings"]) == (25, [2], {})
    assert found["probability"] == SUMMARY.maps.set_index("number")["front_probability"][4]


def test_a_rival_outside_the_space_is_called_by_its_label() -> None:
    assert (MAPS[7]["name"], MAPS[7]["parameters"]) == ("trial 7", 22)


def test_every_map_has_the_rival_that_the_verdict_would_set_against_it() -> None:
    for number, trial in scored(SUMMARY.maps).items():
        assert MAPS[number]["rival"] == uniform_rival(SUMMARY.maps, trial).number
    assert MAPS[8]["rival"] == 2  # of no more than the truncation's 30 parameters
    assert page_data(summary_of(table((0.5, 10))), "small")["maps"][0]["rival"] is None


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "none"), (1, "retrain"), (2, "kept"), (4, "kept"), (8, "retrain")]
)
def test_weights_are_kept_or_trained_again_unless_there_are_none(number, expected) -> None:
    assert MAPS[number]["weights"] == expected


def test_a_kept_head_of_the_untrained_map_can_be_exported() -> None:
    (found, *_) = page_data(summary_of(TRIALS, kept={0}), "small")["maps"]
    assert found["weights"] == "kept"


def test_front_ascends_and_choices_are_those_of_the_rules() -> None:
    assert DATA["front"] == [0, 5, 2, 4, 3]
    assert DATA["choices"] == {rule: choose(SUMMARY.evidence, Rule(rule)).number for rule in PLAIN_RULES}
    assert DATA["rule"] == "as-good-as-best"
    assert DATA["compared"] == [SUMMARY.chosen.number, *(found.trial for found in SUMMARY.compared[1:])]
    assert DATA["called"] == "studies/small --storage URL"


def test_ranks_are_in_the_order_of_the_modules_whatever_that_of_the_map() -> None:
    space = Space({name: Shape(4, 6) for name in "ab"}, {name: (name,) for name in "ab"}, (0, 1, 2))
    trials = table((0.5, 30)).assign(ranks=[{"b": 2, "a": 1}])
    assert page_data(summary_of(trials, space), "small")["maps"][0]["ranks"] == [1, 2]


def test_grid_has_a_row_a_layer_and_a_column_a_kind() -> None:
    modules = ["model.layers.0.attn.q", "model.layers.0.mlp", "model.layers.10.attn.q", "model.layers.10.mlp"]
    assert data_of(modules, (1, 1, 1, 1))["grid"] == {
        "layers": ["0", "10"],
        "kinds": ["attn.q", "mlp"],
        "places": [[0, 0], [0, 1], [1, 0], [1, 1]],
    }


def test_grid_keeps_modules_outside_all_layers_and_gaps() -> None:
    modules = ["embed", "model.layers.0.attn.q", "model.layers.1.mlp"]
    assert data_of(modules, (1, 1, 1))["grid"] == {
        "layers": ["embed", "model.layers.0", "model.layers.1"],
        "kinds": ["embed", "attn.q", "mlp"],
        "places": [[0, 0], [1, 1], [2, 2]],
    }


@settings(max_examples=10)
@given(st.lists(st.sampled_from([f"m.{i}.{kind}" for i in range(3) for kind in "qkv"]), min_size=1, unique=True))
def test_no_two_modules_have_one_place(modules) -> None:
    grid = data_of(modules, (1,) * len(modules))["grid"]
    assert len({tuple(place) for place in grid["places"]}) == len(modules)
    for name, (row, column) in zip(modules, grid["places"], strict=True):
        assert f"m.{name[2]}".endswith(grid["layers"][row])
        assert name.endswith(f".{grid['kinds'][column]}")


def test_every_rank_has_a_colour_on_the_ladder_and_off_it() -> None:
    trials = table((0.5, 10), (0.6, 70), (0.7, 90), kinds=[UNIFORM, SVD, SVD], states=["COMPLETE"] * 2 + ["FAIL"])
    assert page_data(summary_of(trials), "small")["colours"].keys() == {1, 7}


def test_losses_are_thinned_and_left_out_where_there_are_none() -> None:
    losses = {0: [], 1: [4.0, 2.0], 2: list(range(1000, 0, -1))}
    found = page_data(summary_of(TRIALS, losses=losses), "small")["losses"]
    assert found.keys() == {1, 2}
    assert found[1] == [(1, 4.0), (2, 2.0)]
    assert (len(found[2]), found[2][-1][0]) == (50, 1000)


def test_data_are_json_even_where_a_score_has_no_error() -> None:
    trials = table((0.5, 10), (0.6, 20), se=math.nan).assign(settings=[{"alpha": 8.0}, {"alpha": 4.0}])
    found = json.loads(as_json(page_data(summary_of(trials), "small")))
    assert [(shown["se"], shown["settings"]["alpha"]) for shown in found["maps"]] == [(None, 8.0), (None, 4.0)]
