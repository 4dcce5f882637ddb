"""Whether the search won: the chosen map against the best uniform map that costs no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import bootstrap

from rank_search.analysis.front import complete

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

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


def rival(trials: pd.DataFrame, chosen: int) -> int | None:
    """The uniform map with the best score among those with no more parameters than the chosen one.

    The untrained model counts as uniform rank 0. A chosen map that is uniform itself is its own rival.
    """
    rows = complete(trials)
    budget = rows.loc[rows["number"] == chosen, "trainable_parameters"].iloc[0]
    uniform = rows[(rows["kind"] == "baseline:uniform") & (rows["trainable_parameters"] <= budget)]
    if chosen in set(uniform["number"]):
        return chosen
    if uniform.empty:
        return None
    return int(uniform.sort_values(["score", "trainable_parameters"], ascending=[False, True])["number"].iloc[0])


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
    trials: pd.DataFrame, chosen: int, chosen_values: Sequence[float], rival_values: Sequence[float], split: str
) -> Verdict:
    """The verdict, from the chosen map's and its rival's per-example scores on one split.

    The two lists are in the same order of examples; when the study has no rival, the second is empty.
    """
    baseline = rival(trials, chosen)
    rows = trials.set_index("number")
    size = f"{rows.loc[chosen, 'trainable_parameters']:,.0f}"
    if baseline is None:
        text = f"No verdict: the study has no uniform map of at most {size} parameters to compare with."
        return Verdict(text, None, None, None, None, split)
    rank = max(rows.loc[baseline, "ranks"].values())
    name = f"uniform rank {rank}" if rank else "the model without fine-tuning"
    if baseline == chosen:
        text = f"The search did not win: the rule chose {name} ({size} parameters); no searched map is preferred to it."
        return Verdict(text, 0.0, 0.0, 0.0, baseline, split)
    differences = np.subtract(chosen_values, rival_values)
    delta = float(differences.mean())
    low, high = paired_interval(differences.tolist())
    rival_size = f"{rows.loc[baseline, 'trainable_parameters']:,.0f}"
    figures = (
        f"trial {chosen} ({size} parameters) scores {delta:+.4f} (95 % interval {low:+.4f} to {high:+.4f}) "
        f"against {name} ({rival_size} parameters) on {len(differences)} {split} examples, one training seed each"
    )
    if low > 0:
        text = f"The search won: {figures}."
    elif high < 0:
        text = f"The search lost: {figures}. Use {name}."
    else:
        text = f"No difference is shown: {figures}. {name[0].upper()}{name[1:]} is as good."
    if split == "validation":
        text += " The map was chosen on these very examples, which flatters it."
    return Verdict(text, delta, low, high, baseline, split)
