"""Questions with their answers and the passage that holds them."""

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
class Answered:
    """A question, its right answers (one at least), and the passage that holds them."""

    question: str
    answers: tuple[str, ...]
    passage: str


def load_answered(settings: AnswerConfig) -> Splits[Answered]:
    """Reads and splits question-answering data; questions about one passage stay together.

    Raises:
        InputError: the data can't be read.
    """
    columns = settings.columns

    def examples(rows: Sequence[Row]) -> list[Answered]:
        questions = column(rows, columns.question, "question")
        answers = column(rows, columns.answers, "answers")
        passages = column(rows, columns.context, "context")
        return [
            Answered(str(question), _answers(given, number), str(passage))
            for number, (question, given, passage) in enumerate(zip(questions, answers, passages, strict=True), start=1)
        ]

    parts = read_parts(settings.data, examples)
    return split(parts, settings, group=lambda example: example.passage)


def _answers(given: Any, row: int) -> tuple[str, ...]:
    """One answer, a list of them, or SQuAD's ``{"text": [...], "answer_start": [...]}``."""
    if isinstance(given, dict):
        given = given.get("text", ())
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = str(given)
    texts = [given] if isinstance(given, str) else list(given) if hasattr(given, "__iter__") else []
    texts = [text.get("text") if isinstance(text, dict) else text for text in texts]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError(f"row {row} has no answer in text; give a text, or a list of texts")
    return tuple(texts)
