"""Rules that choose one map from a study's front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rank_search.analysis.front import front
from rank_search.errors import InputError, RankSearchError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_RULE = "within-one-se"
_PLAIN = ("knee", "best", DEFAULT_RULE)
_BOUNDED = ("max-parameters", "min-score")


@dataclass(frozen=True)
class Rule:
    """A choice rule; ``bound`` is the N or X of ``max-parameters=N`` and ``min-score=X``."""

    name: str
    bound: float | None = None

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Reads ``knee``, ``best``, ``within-one-se``, ``max-parameters=N`` or ``min-score=X``.

        Raises:
            InputError: it is none of these.
        """
        name, equals, bound = text.partition("=")
        if name in _PLAIN and not equals:
            return cls(name)
        if name not in _BOUNDED:
            known = [*_PLAIN, "max-parameters=N", "min-score=X"]
            raise InputError(f"{text!r} is no rule; {did_you_mean(text, known)}", field="--rule")
        try:
            number = float(bound.replace("_", "").replace(",", ""))
        except ValueError:
            raise InputError(f"{text!r} needs a number, such as {name}=50000", field="--rule") from None
        if not np.isfinite(number):
            raise InputError(f"{text!r} needs a finite number", field="--rule")
        return cls(name, number)

    def __str__(self) -> str:
        return self.name if self.bound is None else f"{self.name}={self.bound:g}"


def choose(trials: pd.DataFrame, rule: Rule) -> int:
    """Number of the trial that a rule chooses; it stands on the front.

    ``best``: the highest score. ``within-one-se``: the smallest map whose score is within one standard
    error of the best (the one-standard-error rule of Breiman et al., 1984). ``knee``: the map farthest
    above the line from the smallest to the best map (Satopää et al., 2011), both axes scaled to 0–1.
    ``max-parameters``: the highest score with no more parameters. ``min-score``: the smallest map that
    scores no less.

    Raises:
        RankSearchError: the study has no scored trial yet, or none meets the bound.
    """
    candidates = front(trials)
    if candidates.empty:
        raise RankSearchError("the study has no finished trial with a score yet; run it first")
    best = candidates.iloc[-1]
    match rule.name:
        case "best":
            chosen = candidates.tail(1)
        case "within-one-se":
            chosen = candidates[candidates["score"] >= best["score"] - best["score_se"]].head(1)
        case "knee":
            chosen = candidates.iloc[[_knee(candidates)]]
        case "max-parameters":
            chosen = candidates[candidates["trainable_parameters"] <= rule.bound].tail(1)
        case _:
            chosen = candidates[candidates["score"] >= rule.bound].head(1)
    if chosen.empty:
        smallest = candidates.iloc[0]
        raise RankSearchError(
            f"no map meets {rule}: the smallest has {smallest['trainable_parameters']:,.0f} parameters "
            f"and scores {smallest['score']:.4f}, the best scores {best['score']:.4f}"
        )
    return int(chosen["number"].iloc[0])


def _knee(candidates: pd.DataFrame) -> int:
    """Position on the front, by ascending parameters, of the point farthest above the chord."""
    if len(candidates) < 3:
        return len(candidates) - 1
    points = candidates[["trainable_parameters", "score"]].to_numpy(dtype=float)
    scaled = (points - points[0]) / (points[-1] - points[0])
    return int(np.argmax(scaled[:, 1] - scaled[:, 0]))
