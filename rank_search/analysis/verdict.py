"""Whether the chosen map is as good as what costs no search, and in which sentence that is said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rank_search.analysis.comparison import SVD_RIVAL
from rank_search.analysis.looks import level
from rank_search.analysis.scores import ExampleScores
from rank_search.core.candidate import CUTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rank_search.analysis.comparison import Comparison
    from rank_search.analysis.paired import PairedDifference, SeedNoise
    from rank_search.analysis.slope import Slope
    from rank_search.analysis.trials import ScoredTrial

    Values = Sequence[Sequence[float]]  # [seeds, examples]

_BY_RECIPE = {
    "eva": " by EVA",
    "adalora": " by AdaLoRA",
    "truncate": " cut out of one large training",
    "recover": " cut out of one large training, and trained on",
}
_MOST_SEEDS = 50  # further ones, above which their number is no advice

Outcome = Literal["better and smaller", "better", "as good, smaller", "worse", "not shown", "rank does not matter here"]


@dataclass(frozen=True)
class Difference:
    """The chosen map against one rival, in pairs of the same seed and example.

    Attributes:
        role: the rival's.
        trial: the rival's trial number.
        name: the rival in words.
        delta: mean difference of the score, chosen minus rival.
        ci_low: lower end of its interval.
        ci_high: upper end.
        at_choice: the difference of their validation scores, by which the map was chosen.
        share: of the rival's parameters that the chosen map has; infinite if the rival has none.
        seeds: common seeds.
        outcome: what is shown.
        seeds_needed: with which something would be shown, if the difference stays; None where no number would do, or
            something is shown.
        needed: what would show more, in words; empty where something is shown.
    """

    role: str
    trial: int
    name: str
    delta: float
    ci_low: float
    ci_high: float
    at_choice: float
    share: float
    seeds: int
    outcome: Outcome
    seeds_needed: int | None
    needed: str


@dataclass(frozen=True)
class Verdict:
    """A sentence and the figures behind it.

    Attributes:
        headline: one sentence: the chosen map against the best uniform one.
        outcome: the same in a word.
        margin: the loss of score that counts as none, in units of the metric.
        text: a paragraph: the headline, and the other rivals.
        delta: mean difference of the score, chosen minus baseline.
        ci_low: lower end of its interval, which holds the truth 95 times of 100 however often it was looked at.
        ci_high: upper end.
        baseline: trial number of the best uniform map, which the headline is about; None when the study has none.
        split: the examples that it rests on.
        seeds: trainings of the chosen map that it rests on.
        examples: of the split, that it rests on.
        comparisons: with every rival whose values are on record.
    """

    headline: str
    outcome: Outcome
    margin: float
    text: str
    delta: float | None
    ci_low: float | None
    ci_high: float | None
    baseline: int | None
    split: str
    seeds: int = 1
    examples: int = 0
    comparisons: tuple[Difference, ...] = ()


def outcome_of(low: float, high: float, margin: float, *, is_smaller: bool) -> Outcome:
    """What an interval of a difference shows.

    Args:
        low: its lower end.
        high: its upper end.
        margin: the loss that counts as none.
        is_smaller: whether the first map has fewer parameters than the second.
    """
    if low > 0:
        return "better and smaller" if is_smaller else "better"
    if low > -margin and is_smaller:
        return "as good, smaller"
    return "worse" if high < 0 else "not shown"


def wants_seeds(comparison: Difference, most: int) -> bool:
    """Whether to train more seeds: nothing is shown yet, and would be with no more than so many.

    To stop where that is hopeless never makes a verdict wrong more often.
    """
    return comparison.seeds_needed is not None and comparison.seeds_needed <= most


def compare(
    comparison: Comparison, values: Mapping[str, Values], margin: float, noise: SeedNoise | None = None
) -> tuple[Difference, ...]:
    """The chosen map against each rival that is another map.

    Args:
        comparison: the chosen map and its baselines.
        values: role (``chosen`` or a rival's) → ``[seeds, examples]``, paired; a role not on record is left out.
        margin: the loss that counts as none.
        noise: what the search showed of the noise of seeds.
    """
    by_number = {trial.number: values[role] for role, trial in comparison.trials.items() if len(values.get(role, ()))}
    places = {number: dict(enumerate(_places(by_number, number))) for number in by_number}
    rows = [row for rows in by_number.values() for row in rows]
    scores = ExampleScores(places, rows.__getitem__, known_noise=noise)
    found = []
    for role, rival in comparison.baselines.items():
        difference = scores.difference(comparison.chosen.number, rival.number)
        if difference is not None and rival.number != comparison.chosen.number:
            found.append(_compared(role, comparison.chosen, rival, difference, margin))
    return tuple(found)


def _places(by_number: Mapping[int, Values], number: int) -> range:
    """Places of a map's seeds among all rows."""
    before = 0
    for other, rows in by_number.items():
        if other == number:
            break
        before += len(rows)
    return range(before, before + len(by_number[number]))


def judge(
    comparison: Comparison,
    values: Mapping[str, Values],
    split: str,
    margin: float,
    noise: SeedNoise | None = None,
    slope: Slope | None = None,
    *,
    settings_searched: bool = False,
) -> Verdict:
    """The verdict, from what the compared maps scored for each seed and example of one split.

    Args:
        comparison: the chosen map and its baselines.
        values: as for `compare`.
        split: the split's name.
        margin: the loss that counts as none.
        noise: what the search showed of the noise of seeds.
        slope: whether rank matters in this study.
        settings_searched: whether settings were searched beside the ranks, for searched maps alone.
    """
    chosen, main = comparison.chosen, comparison.main
    comparisons = compare(comparison, values, margin, noise)
    seeds = len(values.get("chosen", ()))
    against_main = next((found for found in comparisons if main is not None and found.trial == main.number), None)
    headline, outcome = _headline(chosen, main, against_main, margin, slope)
    delta = low = high = 0.0 if main is not None and main.number == chosen.number else None
    if against_main is not None:
        delta, low, high = against_main.delta, against_main.ci_low, against_main.ci_high
    others = [found for found in comparisons if main is None or found.trial != main.number]
    examples = len(values["chosen"][0]) if seeds else 0
    sentences = [headline, *map(_aside, _distinct(others)), *_basis(against_main, split, examples)]
    if settings_searched and main is not None and chosen.settings != main.settings:
        sentences.append("Settings beside the ranks were searched for it, and not for the uniform map.")
    return Verdict(
        headline,
        outcome,
        margin,
        " ".join(sentences),
        delta,
        low,
        high,
        main.number if main else None,
        split,
        seeds,
        examples,
        comparisons,
    )


def _compared(
    role: str, chosen: ScoredTrial, rival: ScoredTrial, difference: PairedDifference, margin: float
) -> Difference:
    used = level(difference.seeds)
    low, high = difference.interval(used)
    parameters = rival.trainable_parameters
    is_smaller = chosen.trainable_parameters < parameters
    outcome = outcome_of(low, high, margin, is_smaller=is_smaller)
    bound = -margin if is_smaller else 0.0
    is_open = outcome == "not shown"
    seeds_needed = difference.seeds_needed(bound, level) if is_open else None
    return Difference(
        role,
        rival.number,
        name_of(rival),
        difference.delta,
        low,
        high,
        chosen.score - rival.score,
        chosen.trainable_parameters / parameters if parameters else math.inf,
        difference.seeds,
        outcome,
        seeds_needed,
        _needed(difference, bound, used, seeds_needed) if is_open else "",
    )


def _needed(difference: PairedDifference, bound: float, used: float, seeds: int | None) -> str:
    """How many more seeds or examples would show on which side of a bound the difference lies, if it stays."""
    more = math.inf if seeds is None else seeds - difference.seeds
    if more <= _MOST_SEEDS:
        return f"about {more} more seed{'s' if more != 1 else ''} would show it, if the difference stays"
    examples = difference.examples_needed(bound, used)
    if examples is not None:
        shown = f"{float(f'{examples:.2g}'):,.0f}"
        return f"about {shown} test examples would show it ({difference.examples:,} now), if the difference stays"
    return "no feasible number of seeds or test examples would show it, if the difference stays"


def _headline(
    chosen: ScoredTrial, main: ScoredTrial | None, found: Difference | None, margin: float, slope: Slope | None
) -> tuple[str, Outcome]:
    flat = slope.sentence if slope is not None and slope.is_flat else ""
    size = f"{chosen.trainable_parameters:,} parameters{_BY_RECIPE.get(chosen.recipe, '')}"
    if main is None:
        return f"{size} were chosen; the study has no uniform map to compare with.", "not shown"
    rival = name_of(main)
    if main.number == chosen.number:
        text = f"{rival[0].upper()}{rival[1:]} was chosen: no smaller map is shown to be as good."
        return (f"{flat} {text}", "rank does not matter here") if flat else (text, "not shown")
    if found is None:
        return f"{size} were chosen; no scores are on this machine that would compare them with {rival}.", "not shown"
    figures = _figures(found)
    digits = _digits(found)
    match found.outcome:
        case "better and smaller" | "better":
            low = _signed(found.ci_low, digits)
            text = f"{size} are better than {rival}: {_signed(found.delta, digits)}, at least {low}."
        case "as good, smaller":
            worst = _signed(found.ci_low, digits)
            text = (
                f"{size} are as good as {rival}: {_signed(found.delta, digits)}, at worst {worst}; margin "
                f"{margin:.{digits}f}."
            )
        case "worse":
            text = f"{size} are worse than {rival}: {figures}; take {rival.partition(' (')[0]}."
        case _ if found.share < 1:
            text = (
                f"It is not shown that {size} are as good as {rival}: {figures}; margin {margin:.{digits}f}; "
                f"{found.needed}."
            )
        case _:
            text = f"It is not shown that {size} are better than {rival}: {figures}; {found.needed}."
    if flat and found.outcome in ("not shown", "worse"):
        return f"{flat} {text}", "rank does not matter here"
    return (f"{flat} {text}" if flat else text), found.outcome


def _distinct(comparisons: Sequence[Difference]) -> list[Difference]:
    """Comparisons with different maps; a map in two roles is spoken of once."""
    return list({found.trial: found for found in reversed(comparisons)}.values())[::-1]


def _aside(other: Difference) -> str:
    """A sentence about another rival."""
    who = "the SVD at no more parameters, " if other.role == SVD_RIVAL else ""
    said = {
        "better and smaller": "better",
        "as good, smaller": "as good, with fewer parameters",
        "not shown": "no difference shown",
    }.get(other.outcome, other.outcome)
    needed = f"; {other.needed}" if other.needed else ""
    return f"Against {who}{other.name}: {said}, {_figures(other)}{needed}."


def _basis(main: Difference | None, split: str, examples: int) -> list[str]:
    """Sentences about what the figures rest on."""
    if main is None:
        return []
    trained = "one training each" if main.seeds == 1 else f"{main.seeds} fresh trainings each"
    basis = f"On {examples:,} {split} examples, {trained}."
    if split == "validation":
        return [basis, "The map was chosen on these very examples, which flatters it."]
    return [basis]


def _figures(found: Difference) -> str:
    digits = _digits(found)
    low, high = _signed(found.ci_low, digits), _signed(found.ci_high, digits)
    return f"{_signed(found.delta, digits)} ({low} to {high})"


def _digits(found: Difference) -> int:
    """Decimals that the error of a difference allows: those that show its first digit, and 3 at least."""
    half = (found.ci_high - found.ci_low) / 2
    if not math.isfinite(half) or half <= 0:
        return 4
    return max(3, min(6, -math.floor(math.log10(half))))


def _signed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def name_of(rival: ScoredTrial) -> str:
    """A compared map in words, with its size."""
    parameters = f"{rival.trainable_parameters:,} parameters"
    if rival.recipe in CUTS:
        return f"the truncation of trial {rival.number} ({parameters})"
    if rival.top_rank == 0:
        return "rank 0 everywhere"
    return f"uniform rank {rival.top_rank} ({parameters})"
