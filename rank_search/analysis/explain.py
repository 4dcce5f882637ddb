"""Why a rule chose a map, and what its neighbours on the front would cost or gain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rank_search.analysis.choice import DEFAULT_RULE
from rank_search.analysis.front import front
from rank_search.analysis.trials import scored

if TYPE_CHECKING:
    import pandas as pd

    from rank_search.analysis.choice import Rule
    from rank_search.analysis.trials import ScoredTrial


def explain(maps: pd.DataFrame, rule: Rule, chosen: ScoredTrial) -> list[str]:
    """Sentences about a choice.

    Args:
        maps: the study's table of maps.
        rule: that chose.
        chosen: what it chose; a map of the front.
    """
    by_number = scored(maps)
    candidates = [by_number[number] for number in front(maps)["number"]]
    place = next(i for i, trial in enumerate(candidates) if trial.number == chosen.number)
    sentences = [_why(candidates, rule, chosen), _how_sure(chosen)]
    if place > 0:
        sentences.append(f"The next smaller map of the front, {_against(candidates[place - 1], chosen)}.")
    if place + 1 < len(candidates):
        sentences.append(f"The next larger map of the front, {_against(candidates[place + 1], chosen)}.")
    return sentences


def _why(candidates: list[ScoredTrial], rule: Rule, chosen: ScoredTrial) -> str:
    best = candidates[-1]
    bound = rule.bound or 0.0
    match rule.name:
        case "best":
            return f"No map scores higher than {chosen.score:.4f}."
        case "knee":
            return "Of the maps on the front it lies farthest above the line from the smallest to the best one."
        case "max-parameters":
            return f"It scores highest of the maps with at most {bound:,.0f} parameters."
        case "min-score":
            return f"It is the smallest map that scores {bound:g} or more."
    assert rule.name == DEFAULT_RULE  # noqa: S101  # every rule is explained
    if not math.isfinite(best.score_se):
        return (
            f"The best map, trial {best.number}, scores {best.score:.4f}, with an unknown error; none scores as much."
        )
    return (
        f"The best map, trial {best.number}, scores {best.score:.4f} ± {best.score_se:.4f}; of the maps that score "
        f"{best.score - best.score_se:.4f} or more, this is the smallest."
    )


def _how_sure(chosen: ScoredTrial) -> str:
    trained = "once" if chosen.seeds == 1 else f"{chosen.seeds} times"
    return f"It was trained {trained}, and stands on the front with probability {chosen.front_probability:.2f}."


def _against(other: ScoredTrial, chosen: ScoredTrial) -> str:
    parameters = other.trainable_parameters - chosen.trainable_parameters
    share = f" ({parameters / chosen.trainable_parameters:+.0%})" if chosen.trainable_parameters else ""
    return (
        f"trial {other.number}, has {parameters:+,} parameters{share} and scores {other.score - chosen.score:+.4f}; it "
        f"stands there with probability {other.front_probability:.2f}"
    )
