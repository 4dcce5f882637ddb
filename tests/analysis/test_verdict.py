import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from rank_search.analysis.comparison import Comparison, svd_rival, uniform_rival
from rank_search.analysis.looks import level
from rank_search.analysis.maps import maps_table
from rank_search.analysis.paired import SeedNoise, paired_difference
from rank_search.analysis.slope import Slope
from rank_search.analysis.trials import scored
from rank_search.analysis.verdict import _needed, compare, judge, outcome_of, wants_seeds
from tests.analysis.conftest import TRIALS

MAPS = maps_table(TRIALS)
BY_NUMBER = scored(MAPS)
MARGIN = 0.01
FLAT = Slope(1, 4, 0.002, -0.01, 0.014, MARGIN)
STEEP = Slope(1, 4, 0.05, 0.03, 0.07, MARGIN)


def comparison_of(chosen: int, best: int = 3) -> Comparison:
    """Trial 4 has 25 parameters; the best uniform map, trial 3, 40; the one of no more parameters, trial 2, 20."""
    rivals = {
        "best uniform": BY_NUMBER[best],
        "uniform": uniform_rival(MAPS, BY_NUMBER[chosen]),
        "svd": svd_rival(TRIALS, BY_NUMBER[chosen]),
    }
    return Comparison(BY_NUMBER[chosen], {role: rival for role, rival in rivals.items() if rival})


def scores(seeds: int = 3, noise: float = 0.05, examples: int = 400) -> dict[str, np.ndarray]:
    """Of all roles: the same but for noise."""
    draw = np.random.default_rng(0)
    easy = draw.normal(0, 0.3, examples)
    roles = ("chosen", "best uniform", "uniform", "svd")
    found = {role: easy + draw.normal(0, noise, (seeds, examples)) for role in roles}
    return {role: values - values.mean() + easy.mean() for role, values in found.items()}


def verdict_of(difference: float, chosen: int = 4, slope: Slope | None = STEEP, **options):
    """The chosen map against rivals that are all so much below it."""
    values = scores(**options)
    values["chosen"] = values["chosen"] + difference
    return judge(comparison_of(chosen), values, "test", MARGIN, slope=slope)


def test_as_good_and_smaller() -> None:
    verdict = verdict_of(0.0)
    assert verdict.outcome == "as good, smaller"
    low = f"{verdict.ci_low:+.3f}".replace("-", "−")
    assert verdict.headline == (
        f"25 parameters are as good as uniform rank 4 (40 parameters): +0.000, at worst {low}; margin 0.010."
    )
    assert -MARGIN < verdict.ci_low < 0 < verdict.ci_high
    assert (verdict.baseline, verdict.seeds, verdict.margin, verdict.split) == (3, 3, MARGIN, "test")


def test_better_and_smaller() -> None:
    verdict = verdict_of(0.1)
    assert verdict.outcome == "better and smaller"
    assert verdict.headline.startswith(
        "25 parameters are better than uniform rank 4 (40 parameters): +0.100, at least "
    )


def test_worse() -> None:
    verdict = verdict_of(-0.1)
    assert verdict.outcome == "worse"
    assert verdict.headline.startswith("25 parameters are worse than uniform rank 4 (40 parameters): −0.100 (−0.1")
    assert verdict.headline.endswith("); take uniform rank 4.")


def test_what_is_not_shown_says_how_many_more_seeds_or_examples_would_show_it() -> None:
    few_seeds = verdict_of(-0.003, noise=0.1)
    assert few_seeds.outcome == "not shown"
    assert few_seeds.headline.startswith("It is not shown that 25 parameters are as good as uniform rank 4 (40")
    assert few_seeds.headline.partition("about ")[2] in {
        f"{number} more seeds would show it, if the difference stays." for number in range(2, 40)
    }
    few_examples = verdict_of(-0.0, noise=0.1, examples=30, seeds=2).comparisons[0]
    assert few_examples.needed.endswith("if the difference stays")
    assert _needed(paired_difference([[0.1, -0.1, 0.2, -0.1] * 9] * 3), -0.01, 0.95, None) == (
        "about 55 test examples would show it (36 now), if the difference stays"
    )
    assert _needed(paired_difference([[0.1, -0.1] * 9] * 3), 0.0, 0.95, None).startswith("no feasible number")


def test_a_larger_map_has_to_be_better_not_as_good() -> None:
    """Trial 3 with 40 parameters against trial 2 with 20."""
    values = {"chosen": scores()["chosen"], "best uniform": scores()["best uniform"]}
    verdict = judge(Comparison(BY_NUMBER[3], {"best uniform": BY_NUMBER[2]}), values, "test", MARGIN)
    assert verdict.outcome == "not shown"
    assert verdict.headline.startswith("It is not shown that 40 parameters are better than uniform rank 2 (20")


def test_flat_ladder_is_said_first() -> None:
    sentence = "Rank does not matter here: uniform rank 4 gains +0.0020 (−0.0100 to +0.0140) above uniform"
    smaller = verdict_of(0.0, slope=FLAT)
    assert smaller.headline.startswith(sentence)
    assert "25 parameters are as good as" in smaller.headline
    assert smaller.outcome == "as good, smaller"
    assert verdict_of(0.0, slope=FLAT, noise=0.9).outcome == "rank does not matter here"
    itself = judge(Comparison(BY_NUMBER[3], {"best uniform": BY_NUMBER[3]}), {}, "test", MARGIN, slope=FLAT)
    assert itself.outcome == "rank does not matter here"
    assert itself.headline.endswith("was chosen: no smaller map is shown to be as good.")


def test_a_uniform_choice_is_set_against_other_rivals_all_the_same() -> None:
    values = {"chosen": scores()["chosen"], "svd": scores()["svd"] + 0.2}
    verdict = judge(comparison_of(3), values, "test", MARGIN)
    assert verdict.headline == "Uniform rank 4 (40 parameters) was chosen: no smaller map is shown to be as good."
    assert (verdict.delta, verdict.ci_low, verdict.ci_high, verdict.baseline) == (0.0, 0.0, 0.0, 3)
    assert "Against the SVD at no more parameters, the truncation of trial 8 (30 parameters): worse" in verdict.text


def test_every_rival_is_told_of_once() -> None:
    verdict = verdict_of(0.1)
    assert [comparison.role for comparison in verdict.comparisons] == ["best uniform", "uniform", "svd"]
    assert "Against uniform rank 2 (20 parameters): better, +0.1" in verdict.text
    assert "Against the SVD at no more parameters, the truncation of trial 7 (22 parameters): better" in verdict.text
    assert verdict.text.endswith("On 400 test examples, 3 fresh trainings each.")
    same = judge(comparison_of(4, best=2), scores(), "test", MARGIN)
    assert same.text.count("uniform rank 2") == 1


def test_no_verdict_without_a_rival_or_its_values() -> None:
    alone = judge(Comparison(BY_NUMBER[4], {}), {"chosen": [[0.1]]}, "test", MARGIN)
    assert alone.headline == "25 parameters were chosen; the study has no uniform map to compare with."
    unknown = judge(comparison_of(4), {}, "test", MARGIN)
    assert unknown.headline.startswith("25 parameters were chosen; no scores are on this machine that would compare")
    assert (unknown.delta, unknown.seeds, unknown.comparisons) == (None, 0, ())


def test_verdict_on_validation_admits_its_bias() -> None:
    assert "flatters" in judge(comparison_of(4), scores(1), "validation", MARGIN).text


def test_verdict_says_when_settings_were_searched_for_one_side_alone() -> None:
    tuned = Comparison(replace(BY_NUMBER[4], settings={"learning_rate": 0.01}), {"best uniform": BY_NUMBER[3]})
    told = "Settings beside the ranks were searched for it, and not for the uniform map."
    assert told in judge(tuned, scores(), "test", MARGIN, settings_searched=True).text
    assert told not in judge(tuned, scores(), "test", MARGIN).text  # each map has the rate of its size
    assert told not in judge(comparison_of(4), scores(), "test", MARGIN, settings_searched=True).text


def test_more_looks_make_the_intervals_wider() -> None:
    """The level follows from the number of seeds, as a verdict looks at fixed numbers of them."""
    three, four = (verdict_of(0.0, seeds=seeds).comparisons[0] for seeds in (3, 4))
    expected = (3 / 4) ** 0.5 * stdtrit(1e9, level(4) / 2 + 0.5) / stdtrit(1e9, level(3) / 2 + 0.5)
    assert (four.ci_high - four.ci_low) / (three.ci_high - three.ci_low) == pytest.approx(expected, rel=0.1)


def test_noise_of_seeds_that_the_search_showed_counts() -> None:
    quiet = compare(comparison_of(4), scores(2), MARGIN, SeedNoise(0.0, 12))[0]
    loud = compare(comparison_of(4), scores(2), MARGIN, SeedNoise(0.01, 12))[0]
    assert loud.ci_high - loud.ci_low > 3 * (quiet.ci_high - quiet.ci_low)


def test_seeds_that_one_map_lacks_are_left_out() -> None:
    values = scores(5)
    values["svd"] = values["svd"][:3]
    assert [found.seeds for found in compare(comparison_of(4), values, MARGIN)] == [5, 5, 3]


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0.001, 0.5), st.booleans())
def test_outcomes(low, width, margin, is_smaller) -> None:
    high = low + width
    outcome = outcome_of(low, high, margin, is_smaller=is_smaller)
    assert ("better" in outcome) == (low > 0)
    assert (outcome == "as good, smaller") == (is_smaller and -margin < low <= 0)
    assert (outcome == "worse") == (high < 0 and not (is_smaller and low > -margin))
    assert not is_smaller or outcome != "better"


def test_more_seeds_are_wanted_where_they_may_show_something() -> None:
    assert not any(wants_seeds(found, 10) for found in verdict_of(0.1).comparisons)  # shown
    (found, *_) = verdict_of(-0.003, noise=0.1).comparisons
    assert wants_seeds(found, found.seeds_needed)
    assert not wants_seeds(found, found.seeds_needed - 1)
    hopeless = verdict_of(0.0, noise=3.0).comparisons[0]
    assert (hopeless.outcome, wants_seeds(hopeless, 10)) == ("not shown", False)
    assert math.isfinite(hopeless.ci_low)
