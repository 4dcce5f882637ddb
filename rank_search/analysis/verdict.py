"""Whether the search won: the chosen map against what costs no search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rank_search.analysis.comparison import BEST_UNIFORM, SVD_RIVAL, UNIFORM_RIVAL
from rank_search.core.rivals import SVD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rank_search.analysis.comparison import Comparison
    from rank_search.analysis.trials import ScoredTrial

    Values = Sequence[Sequence[float]]  # [seeds, examples]

_DRAWS = 9_999
_LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """The chosen map against one rival, in pairs of the same seed and example.

    Attributes:
        role: the rival's.
        trial: the rival's trial number.
        name: the rival in words.
        delta: mean difference of the score, chosen minus rival.
        ci_low: lower end of its 95 % interval.
        ci_high: upper end.
        at_choice: the difference of their validation scores, by which the map was chosen.
        share: of the rival's parameters that the chosen map has; infinite if the rival has none.
    """

    role: str
    trial: int
    name: str
    delta: float
    ci_low: float
    ci_high: float
    at_choice: float
    share: float

    @property
    def outcome(self) -> str:
        """``better``, ``worse``, or ``no difference shown``."""
        return "better" if self.ci_low > 0 else "worse" if self.ci_high < 0 else "no difference shown"


@dataclass(frozen=True)
class Verdict:
    """A sentence and the figures behind it.

    Attributes:
        text: one paragraph for a reader.
        delta: mean difference of the score, chosen minus baseline.
        ci_low: lower end of its 95 % interval.
        ci_high: upper end.
        baseline: trial number of the uniform map compared with; None when the study has none.
        split: the examples that it rests on.
        seeds: trainings of each map that it rests on.
        comparisons: with every rival whose values are on record.
    """

    text: str
    delta: float | None
    ci_low: float | None
    ci_high: float | None
    baseline: int | None
    split: str
    seeds: int = 1
    comparisons: tuple[Difference, ...] = ()


def paired_interval(differences: Values, seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean difference over examples and seeds.

    Examples are drawn with replacement (the percentile bootstrap). The few seeds can't stand for their law in
    that way: of three, resampling shows two thirds of the variance. What they add is drawn from Student's t
    instead, scaled by their variance beyond that of the examples (analysis of variance of two crossed factors).

    One example in one training says nothing: its interval is without end.

    Args:
        differences: ``[seeds, examples]``.
        seed: of the draws.
    """
    values = np.asarray(differences, dtype=float)
    draw = np.random.default_rng(seed)
    seeds, examples = values.shape
    if values.size == 1:
        return -math.inf, math.inf
    of_example, mean = values.mean(axis=0), float(values.mean())
    drawn = np.empty(_DRAWS)
    for start in range(0, _DRAWS, 1000):
        picked = draw.integers(examples, size=(min(1000, _DRAWS - start), examples))
        drawn[start : start + len(picked)] = of_example[picked].mean(axis=1)
    if seeds > 1:
        of_seed = values.mean(axis=1)
        residuals = values - of_seed[:, None] - of_example + mean
        noise = float((residuals**2).sum()) / ((seeds - 1) * max(1, examples - 1))  # none, where there is one example
        beyond = max(0.0, float(of_seed.var(ddof=1)) - noise / examples)
        drawn += math.sqrt(beyond / seeds) * draw.standard_t(seeds - 1, size=_DRAWS)
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def judge(comparison: Comparison, values: Mapping[str, Values], split: str) -> Verdict:
    """The verdict, from what the compared maps scored for each seed and example of one split.

    Args:
        comparison: the chosen map and its baselines.
        values: role (``chosen`` or a rival's) → ``[seeds, examples]``, paired; a role not on record is left out.
        split: the split's name.
    """
    chosen, baseline = comparison.chosen, comparison.uniform
    comparisons = tuple(
        _compared(role, chosen, rival, values["chosen"], values[role])
        for role, rival in comparison.baselines.items()
        if role in values and "chosen" in values and rival.number != chosen.number
    )
    main = next((comparison for comparison in comparisons if comparison.role == UNIFORM_RIVAL), None)
    seeds = len(values.get("chosen", ()))
    if baseline is None:
        text = "No verdict: the study has no uniform map to compare with."
        return Verdict(text, None, None, None, None, split, seeds, comparisons)
    if baseline.number == chosen.number:
        text = f"The search did not win: the rule chose {_name(baseline)}; no searched map is preferred to it."
        found = (0.0, 0.0, 0.0)
    elif main is None:
        text = "No verdict: the per-example scores of this study are not on this machine."
        return Verdict(text, None, None, None, baseline.number, split, seeds, comparisons)
    else:
        text = _text(chosen, main, split, np.shape(values["chosen"]))
        found = (main.delta, main.ci_low, main.ci_high)
        if chosen.settings != baseline.settings:
            text += " Settings beside the ranks were searched for it, and not for the uniform map."
    for other in comparisons:
        if other.trial != baseline.number:
            text += f" {_aside(other)}"
    return Verdict(text, *found, baseline.number, split, seeds, comparisons)


def _compared(role: str, chosen: ScoredTrial, rival: ScoredTrial, own: Values, other: Values) -> Difference:
    differences = np.subtract(own, other)
    low, high = paired_interval(differences)  # type: ignore[arg-type]
    parameters = rival.trainable_parameters
    return Difference(
        role,
        rival.number,
        _name(rival),
        float(differences.mean()),
        low,
        high,
        chosen.score - rival.score,
        chosen.trainable_parameters / parameters if parameters else math.inf,
    )


def _text(chosen: ScoredTrial, main: Difference, split: str, shape: tuple[int, ...]) -> str:
    """The sentences about the uniform rival."""
    seeds, examples = shape
    trained = "one training seed each" if seeds == 1 else f"{seeds} fresh training seeds each"
    figures = (
        f"trial {chosen.number} ({chosen.trainable_parameters:,} parameters) scores {_figures(main)} against "
        f"{main.name}, on {examples} {split} examples, {trained}"
    )
    sentences = {
        "better": f"The search won: {figures}.",
        "worse": f"The chosen map scores worse: {figures}.",
        "no difference shown": f"No difference in score is shown: {figures}.",
    }
    text = sentences[main.outcome]
    if main.share < 1:
        text += f" It has {main.share:.0%} of that map's parameters."
    elif main.outcome != "better":
        text += f" Uniform is {'better' if main.outcome == 'worse' else 'as good'}, and simpler."
    if split == "validation":
        return text + " The map was chosen on these very examples, which flatters it."
    return text + f" On validation, where it was chosen, the difference was {main.at_choice:+.4f}."


def _aside(other: Difference) -> str:
    """A sentence about another rival."""
    who = {SVD_RIVAL: "ranks from SVD at no more parameters", BEST_UNIFORM: "the best uniform map"}[other.role]
    share = f"; it has {other.share:.0%} of its parameters" if other.share < 1 else ""
    return f"Against {who}, {other.name}: {other.outcome} ({_figures(other)}){share}."


def _figures(difference: Difference) -> str:
    low, high = difference.ci_low, difference.ci_high
    return f"{difference.delta:+.4f} (95 % interval {low:+.4f} to {high:+.4f})"


def _name(rival: ScoredTrial) -> str:
    parameters = f"{rival.trainable_parameters:,} parameters"
    if rival.kind == SVD:
        return f"the map of trial {rival.number} ({parameters})"
    if rival.top_rank == 0:
        return "rank 0 everywhere"
    return f"uniform rank {rival.top_rank} ({parameters})"
