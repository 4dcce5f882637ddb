"""Whether the search won: the chosen map against a uniform one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import bootstrap

from rank_search.analysis.choice import DEFAULT_RULE, Rule, choose
from rank_search.analysis.trials import scored
from rank_search.search.table import UNIFORM

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from rank_search.analysis.trials import ScoredTrial

_RESAMPLES = 9_999
_LEVEL = 0.95


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
    """

    text: str
    delta: float | None
    ci_low: float | None
    ci_high: float | None
    baseline: int | None
    split: str


@dataclass(frozen=True)
class Contest:
    """The trial that the default rule chooses, and the uniform map that it has to beat, if there is one."""

    chosen: ScoredTrial
    baseline: ScoredTrial | None

    @classmethod
    def of(cls, trials: pd.DataFrame) -> Contest:
        """The contest of a study.

        Raises:
            RankSearchError: no trial has a score yet.
        """
        chosen = choose(trials, Rule.parse(DEFAULT_RULE))
        return cls(chosen, rival(trials, chosen))

    @property
    def numbers(self) -> list[int | None]:
        """Numbers of the two trials, which name the contest."""
        return [self.chosen.number, self.baseline.number if self.baseline else None]


def rival(trials: pd.DataFrame, chosen: ScoredTrial) -> ScoredTrial | None:
    """The uniform map that the chosen map has to beat.

    The best-scoring trained one with no more parameters. A chosen map smaller than all of them is set
    against the smallest of them; a study without any has the untrained model, if it was scored. A chosen
    map that is uniform itself is its own rival.
    """
    if chosen.kind == UNIFORM:
        return chosen
    uniform = [trial for trial in scored(trials).values() if trial.kind == UNIFORM]
    trained = [trial for trial in uniform if trial.top_rank > 0]
    affordable = [trial for trial in trained if trial.trainable_parameters <= chosen.trainable_parameters]
    if affordable:
        return max(affordable, key=lambda trial: (trial.score, -trial.trainable_parameters))
    return min(trained or uniform, key=lambda trial: trial.trainable_parameters, default=None)


def paired_interval(differences: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean difference, by the percentile bootstrap over examples."""
    values = np.asarray(differences, dtype=float)
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    interval = bootstrap(
        (values,),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=_LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
        batch=100,
    ).confidence_interval
    return float(interval.low), float(interval.high)


def judge(
    chosen: ScoredTrial,
    baseline: ScoredTrial | None,
    chosen_values: Sequence[float],
    baseline_values: Sequence[float],
    split: str,
) -> Verdict:
    """The verdict, from per-example scores of the chosen map and of its rival on one split.

    Args:
        chosen: the chosen map.
        baseline: its `rival`; None when the study has none.
        chosen_values: the chosen map's score for each example; empty when it is not on record.
        baseline_values: the rival's, in the same order.
        split: the split's name.
    """
    if baseline is None:
        text = "No verdict: the study has no uniform map to compare with."
        return Verdict(text, None, None, None, None, split)
    name = _name(baseline)
    if baseline == chosen:
        text = f"The search did not win: the rule chose {name}; no searched map is preferred to it."
        return Verdict(text, 0.0, 0.0, 0.0, baseline.number, split)
    if not chosen_values or not baseline_values:
        text = "No verdict: the per-example scores of this study are not on this machine."
        return Verdict(text, None, None, None, baseline.number, split)
    differences = np.subtract(chosen_values, baseline_values)
    delta = float(differences.mean())
    low, high = paired_interval(differences.tolist())
    figures = (
        f"trial {chosen.number} ({chosen.trainable_parameters:,} parameters) scores {delta:+.4f} (95 % interval "
        f"{low:+.4f} to {high:+.4f}) against {name}, on {len(differences)} {split} examples, one training seed each"
    )
    share = chosen.trainable_parameters / baseline.trainable_parameters if baseline.trainable_parameters else math.inf
    if low > 0:
        text = f"The search won: {figures}."
    elif high < 0:
        text = f"The chosen map scores worse: {figures}."
    else:
        text = f"No difference in score is shown: {figures}."
    if share < 1:
        text += f" It has {share:.0%} of that map's parameters."
    elif low <= 0:
        text += f" Uniform is {'better' if high < 0 else 'as good'}, and simpler."
    if chosen.settings != baseline.settings:
        text += " Settings beside the ranks were searched for it, and not for the uniform map."
    if split == "validation":
        text += " The map was chosen on these very examples, which flatters it."
    return Verdict(text, delta, low, high, baseline.number, split)


def _name(uniform: ScoredTrial) -> str:
    if uniform.top_rank == 0:
        return "rank 0 everywhere"
    return f"uniform rank {uniform.top_rank} ({uniform.trainable_parameters:,} parameters)"
