"""Rules that choose one map from a study's front."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rank_search.analysis.front import front
from rank_search.analysis.trials import ScoredTrial, scored
from rank_search.core.errors import InputError, RankSearchError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_RULE = "within-one-se"
PLAIN_RULES = (DEFAULT_RULE, "best", "knee")  # those without a bound
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
        if name in PLAIN_RULES and not equals:
            return cls(name)
        if name not in _BOUNDED:
            known = [*PLAIN_RULES, "max-parameters=N", "min-score=X"]
            raise InputError(f"{text!r} is no rule; {did_you_mean(text, known)}", field="--rule")
        try:
            number = float(bound.replace(",", "") if name == "max-parameters" else bound)
        except ValueError:
            example = "50000" if name == "max-parameters" else "0.75"
            raise InputError(f"{text!r} needs a number, such as {name}={example}", field="--rule") from None
        if not math.isfinite(number) or (name == "max-parameters" and number < 0):
            raise InputError(f"{text!r} needs a finite number, and no parameters below 0", field="--rule")
        return cls(name, number)

    def __str__(self) -> str:
        return self.name if self.bound is None else f"{self.name}={self.bound:g}"


def choose(maps: pd.DataFrame, rule: Rule) -> ScoredTrial:
    """The map that a rule chooses, by means and standard errors; it stands on the front.

    ``best``: the highest score. ``within-one-se``: the smallest map whose score is within one standard
    error of the best (the one-standard-error rule of Breiman et al., 1984). ``knee``: the map farthest
    above the line from the smallest to the best map (Satopää et al., 2011), both axes scaled to 0–1.
    ``max-parameters``: the highest score with no more parameters. ``min-score``: the smallest map that
    scores no less.

    Raises:
        RankSearchError: the study has no scored trial yet, or none meets the bound.
    """
    by_number = scored(maps)
    candidates = [by_number[number] for number in front(maps)["number"]]  # by ascending parameters, and score
    if not candidates:
        raise RankSearchError("no trial of the study has a score yet; see its status, and run it")
    best = candidates[-1]
    bound = rule.bound or 0.0
    match rule.name:
        case "best":
            return best
        case "knee":
            return _knee(candidates)
        case "max-parameters":
            chosen = [trial for trial in candidates if trial.trainable_parameters <= bound][-1:]
        case "min-score":
            chosen = [trial for trial in candidates if trial.score >= bound]
        case _:
            # Without a standard error (a single example) only the best itself is within it.
            bound = best.score - (best.score_se if math.isfinite(best.score_se) else 0.0)
            chosen = [trial for trial in candidates if trial.score >= bound]
    if not chosen:
        smallest = candidates[0]
        raise RankSearchError(
            f"no map meets {rule}: the smallest has {smallest.trainable_parameters:,} parameters "
            f"and scores {smallest.score:.4f}, the best scores {best.score:.4f}"
        )
    return chosen[0]


def _knee(candidates: list[ScoredTrial]) -> ScoredTrial:
    """The candidate farthest above the chord from the first to the last; the last where there is no third."""
    first, last = candidates[0], candidates[-1]

    def height(trial: ScoredTrial) -> float:
        share = (trial.trainable_parameters - first.trainable_parameters) / (
            last.trainable_parameters - first.trainable_parameters
        )
        return (trial.score - first.score) / (last.score - first.score) - share

    return max(candidates, key=height) if len(candidates) > 2 else last
