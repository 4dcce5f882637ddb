"""Rules and margins as people write them."""

import pytest

from rank_search.core.choice import PLAIN_RULES, Margin, Rule
from rank_search.core.errors import InputError


@pytest.mark.parametrize("text", [*PLAIN_RULES, "max-parameters=60", "min-score=0.7"])
def test_a_rule_is_written_as_it_is_read(text) -> None:
    assert str(Rule.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kneee", "did you mean 'knee'"),
        ("knee=3", "is no rule"),
        ("as-good-as-bets", "did you mean 'as-good-as-best'"),
        ("max-parameters", "needs a number, such as max-parameters="),
        ("max-parameters=many", "needs a number"),
        ("min-score=nan", "needs a finite number"),
        ("min-score=0,9", "needs a number, such as min-score=0.75"),
        ("max-parameters=-1", "no parameters below 0"),
        ("", "is no rule; known:"),
    ],
)
def test_wrong_rules(text, expected) -> None:
    with pytest.raises(InputError, match=expected):
        Rule.parse(text)


@pytest.mark.parametrize(
    ("text", "gain", "margin"), [("10%", 0.2, 0.02), (" 2.5 % ", 0.4, 0.01), ("0.01", 0.2, 0.01), (0.5, 0.2, 0.5)]
)
def test_margins(text, gain, margin) -> None:
    assert Margin.parse(text).of_gain(gain) == pytest.approx(margin)


def test_a_share_of_no_gain_is_no_margin() -> None:
    assert Margin.parse("10%").of_gain(-0.3) == 0.0
    assert str(Margin.parse("10%")) == "10%"
    assert str(Margin.parse(0.007)) == "0.007"


@pytest.mark.parametrize("text", ["", "ten", "0", "-0.1", "0%", "100%", "nan", "inf", "10%%"])
def test_wrong_margins(text) -> None:
    with pytest.raises(ValueError, match=r"is no margin; write a share .* such as 10%, or a loss"):
        Margin.parse(text)
