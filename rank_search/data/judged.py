"""Columns that say whether a pair is a right answer, such as ``score`` or ``label``: every pair is trained as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rank_search.data.rows import Row

_JUDGEMENTS = {
    *("score", "scores", "label", "labels", "gold_label", "similarity", "similarity_score", "relatedness_score"),
    *("relevance", "relevant", "is_relevant", "is_duplicate", "is_correct", "is_positive", "correct", "rating"),
}
_RIGHT = {"1", "1.0", "true", "yes", "positive", "relevant", "entailment", "duplicate", "correct"}


def judgements(columns: Collection[str]) -> list[str]:
    """The columns whose names say that they judge the other columns of their row."""
    return [name for name in columns if name.strip().casefold() in _JUDGEMENTS]


def check_all_right(rows: Sequence[Row], used: Collection[str]) -> None:
    """Checks that no column says of a row that it is not a right answer, or not wholly.

    Args:
        rows: at least one.
        used: the columns that the task reads.

    Raises:
        InputError: a column does.
    """
    for name in judgements([column for column in rows[0] if column not in used]):
        for number, row in enumerate(rows, start=1):
            value = row.get(name)
            if str(value).strip().casefold() not in _RIGHT:
                raise InputError(
                    f"row {number} has {value!r:.60} in column {name!r}, which says that it is no right answer, and "
                    "every row would be trained as one; remove the rows that are no right answers, or the column if it "
                    "means something else"
                )
