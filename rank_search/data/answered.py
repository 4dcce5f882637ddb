"""Question-answering data: questions with their answers and the passage that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import InputError
from rank_search.data.rows import column
from rank_search.data.splits import read_parts, split

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

    Raises:
        InputError: the data can't be read.
    """
    columns = settings.columns

    def examples(rows: Sequence[Row]) -> list[AnsweredQuestion]:
        questions = column(rows, columns.question, "question")
        answers = column(rows, columns.answers, "answers")
        passages = column(rows, columns.context, "context")
        return [
            AnsweredQuestion(str(question), _answer_texts(value, number), str(passage))
            for number, (question, value, passage) in enumerate(zip(questions, answers, passages, strict=True), start=1)
        ]

    parts = read_parts(settings.data, examples)
    return split(parts, settings, group=lambda example: example.passage)


def _answer_texts(value: Any, row: int) -> tuple[str, ...]:
    """The answers in a cell: one answer, a list of answers, or SQuAD's ``{"text": [...], "answer_start": [...]}``."""
    if isinstance(value, dict):
        value = value.get("text", ())
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    texts = [value] if isinstance(value, str) else list(value) if hasattr(value, "__iter__") else []
    texts = [text.get("text") if isinstance(text, dict) else text for text in texts]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError(f"row {row} has no answer text; write a text, or a list of texts")
    return tuple(texts)
