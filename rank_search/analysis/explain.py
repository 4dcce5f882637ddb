"""Why a rule chose a map, and what its neighbours on the front would cost or gain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.analysis.choice import walks
from rank_search.core.choice import DEFAULT_RULE

if TYPE_CHECKING:
    from rank_search.analysis.choice import Walk
    from rank_search.analysis.evidence import Evidence
    from rank_search.analysis.trials import ScoredTrial
    from rank_search.core.choice import Rule


def explain(evidence: Evidence, rule: Rule, chosen: ScoredTrial) -> list[str]:
    """Sentences about a choice.

    Args:
        evidence: what the choice rests on.
        rule: that chose.
        chosen: what it chose; a map of the front.
    """
    candidates = evidence.front
    place = next((i for i, trial in enumerate(candidates) if trial.number == chosen.number), None)
    sentences = [*_why(evidence, rule, chosen), _how_sure(chosen)]
    if place:
        sentences.append(f"The next smaller map of the front, {_against(evidence, candidates[place - 1], chosen)}.")
    if place is not None and place + 1 < len(candidates):
        sentences.append(f"The next larger map of the front, {_against(evidence, candidates[place + 1], chosen)}.")
    return sentences


def _why(evidence: Evidence, rule: Rule, chosen: ScoredTrial) -> list[str]:
    best = evidence.front[-1]
    bound = rule.bound or 0.0
    match rule.name:
        case "best":
            return [f"No map scores higher than {chosen.score:.4f}."]
        case "knee":
            return ["Of the maps on the front it lies farthest above the line from the smallest to the best one."]
        case "max-parameters":
            return [f"It scores highest of the maps with at most {bound:,.0f} parameters."]
        case "min-score":
            return [f"It is the smallest map that scores {bound:g} or more."]
        case "within-one-se":
            why = (
                f"The best map, trial {best.number}, scores {best.score:.4f}; of the maps that are below it by no more "
                "than the standard error of their paired difference, this is the smallest."
            )
            return [why]
    assert rule.name == DEFAULT_RULE  # noqa: S101  # every rule is explained
    margin = f"{evidence.margin:.4f}"
    if evidence.accepted.is_share:
        margin += f" ({evidence.accepted} of what fine-tuning gains)"
    return [
        f"A smaller map may lose {margin} at most against the best one.",
        *(_steps(evidence, made) for made in walks(evidence)),
    ]


def _steps(evidence: Evidence, made: Walk) -> str:
    """What one test along the front came to."""
    examples = made.test.examples
    if not made.test.front:
        return f"On {examples}: no scores by example are on record, so that no map is shown to be as good as the best."
    best = f"trial {made.test.front[-1]}"
    passed = [step for step in made.steps if step.is_as_good]
    failed = next((step for step in made.steps if not step.is_as_good), None)
    said = f"On {examples}, {len(passed)} of {len(made.test.front) - 1} smaller maps are as good as {best}"
    if failed is None:
        return f"{said}."
    parameters = evidence.by_number[failed.number].trainable_parameters
    if failed.difference is None:
        return f"{said}; trial {failed.number} ({parameters:,} parameters) has no scores in common with it."
    return (
        f"{said}; trial {failed.number} ({parameters:,} parameters) is not shown to be: "
        f"{failed.difference.delta:+.4f}, at worst {failed.low:+.4f}."
    )


def _how_sure(chosen: ScoredTrial) -> str:
    trained = "once" if chosen.seeds == 1 else f"{chosen.seeds} times"
    return f"It was trained {trained}, and stands on the front with probability {chosen.front_probability:.2f}."


def _against(evidence: Evidence, other: ScoredTrial, chosen: ScoredTrial) -> str:
    parameters = other.trainable_parameters - chosen.trainable_parameters
    share = f" ({parameters / chosen.trainable_parameters:+.0%})" if chosen.trainable_parameters else ""
    difference = evidence.searched.difference(other.number, chosen.number)
    if difference is None:
        scores = f"{other.score - chosen.score:+.4f}"
    else:
        low, high = difference.interval()
        scores = f"{difference.delta:+.4f} ({low:+.4f} to {high:+.4f} in pairs)"
    return f"trial {other.number}, has {parameters:+,} parameters{share} and scores {scores}"
