"""Plots made of characters, for terminals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARGIN = 9  # characters of the labels of the y axis


def scatter(points: Sequence[tuple[float, float]], width: int = 48, height: int = 10) -> str:
    """Scores against parameters, on a logarithmic axis, each point an ``o``.

    The highest, the middle and the lowest value of each axis are written beside it, as far as they fit.

    Args:
        points: parameters, above 0, and scores; one at least.
        width: of the field of points, in characters.
        height: of it, in lines.
    """
    logs, scores = [math.log10(parameters) for parameters, _ in points], [score for _, score in points]
    cells = [[" "] * width for _ in range(height)]
    for log, score in zip(logs, scores, strict=True):
        row = height - 1 - _cell(score, scores, height)
        cells[row][_cell(log, logs, width)] = "o"
    labels = [""] * height
    for part in (0.0, 0.5, 1.0):
        labels[round((height - 1) * (1 - part))] = f"{_between(scores, part):.4f}"
    lines = [f"{label:>{_MARGIN - 2}} │{''.join(row)}".rstrip() for label, row in zip(labels, cells, strict=True)]
    margin = " " * _MARGIN
    lines += [f"{margin[:-1]}└{'─' * width}", margin + _below(logs, width)]
    lines += [f"{margin}{'parameters (logarithmic)':^{width}}".rstrip()]
    return "\n".join([f"{'score':>{_MARGIN - 2}}", *lines])


def _below(logs: Sequence[float], width: int) -> str:
    """The labels of the axis of parameters: one where all values are the same, two where three do not fit."""
    low, middle, high = (f"{10 ** _between(logs, part):,.0f}" for part in (0.0, 0.5, 1.0))
    if low == high:
        return f"{middle:^{width}}".rstrip()
    half = (width - len(middle)) // 2
    if max(len(low), len(high)) >= half:
        return f"{low}{high:>{width - len(low)}}"
    return f"{low:<{half}}{middle}{high:>{width - half - len(middle)}}"


def _between(values: Sequence[float], part: float) -> float:
    return min(values) + part * (max(values) - min(values))


def _cell(value: float, values: Sequence[float], cells: int) -> int:
    """The cell of an axis that a value falls in; the middle one where all values are the same."""
    span = max(values) - min(values)
    return round((value - min(values)) / span * (cells - 1)) if span else cells // 2
