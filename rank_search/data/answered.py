"""Question-answering data: questions with their answers and the passage that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import InputError
from rank_search.data.judged import check_all_right
from rank_search.data.rows import as_text, column, is_empty, text_column
from rank_search.data.splits import Part, read_parts, split
from rank_search.data.squad import is_unanswerable, unanswerable_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rank_search.config import AnswerConfig
    from rank_search.data.rows import Row
    from rank_search.data.splits import Splits


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question, its right answers (at least one), and the passage that holds them."""

    question: str
    answers: tuple[str, ...]
    passage: str


def load_answered(settings: AnswerConfig) -> Splits[AnsweredQuestion]:
    """Reads and splits question-answering data; questions about one passage stay together.

    Questions that their passage does not answer, as in SQuAD 2.0, are left out, and a note says how many.

    Raises:
        InputError: the data can't be read, or a row says that its answer is wrong.
    """
    columns = settings.columns

    def examples(rows: Sequence[Row]) -> Part[AnsweredQuestion]:
        check_all_right(rows, {columns.question, columns.answers, columns.context})
        cells = zip(
            text_column(rows, columns.question, "question"),
            column(rows, columns.answers, "answers"),
            passage_column(rows, columns.context),
            strict=True,
        )
        found = [
            AnsweredQuestion(question, _answer_texts(value, number, columns.answers), passage)
            for number, (question, value, passage) in enumerate(cells, start=1)
            if not is_unanswerable(value)
        ]
        return Part(found, unanswerable_note(len(rows) - len(found), len(rows)))

    parts = read_parts(settings.data, examples)
    return split(
        parts,
        settings,
        text=lambda example: f"{example.question}\n{example.passage}",
        group=lambda example: example.passage,
    )


def passage_column(rows: Sequence[Row], name: str) -> list[str]:
    """The column of the passages.

    Raises:
        InputError: it is missing, or rows have no passage in it; instruction data such as Alpaca's has none in most.
    """
    empty = sum(is_empty(row.get(name)) for row in rows) if name in rows[0] else 0
    if empty:
        raise InputError(
            f"{empty:,} of {len(rows):,} rows have no passage in column {name!r}, and the answer is to be found in it; "
            "remove these rows, or name the column that holds the passages as task.columns.context"
        )
    return text_column(rows, name, "context")


def _answer_texts(value: Any, row: int, name: str) -> tuple[str, ...]:
    """The answers in a cell: one answer, a list of answers, or SQuAD's ``{"text": [...], "answer_start": [...]}``."""
    if isinstance(value, dict):
        value = value.get("text")
    answers = value if isinstance(value, list | tuple) else [value]
    answers = [answer.get("text") if isinstance(answer, dict) else answer for answer in answers]
    if not answers or any(is_empty(answer) or isinstance(answer, bool | list | dict) for answer in answers):
        raise InputError(f"row {row} has no answer text; write a text, or a list of texts")
    return tuple(as_text(answer, row, name) for answer in answers)
