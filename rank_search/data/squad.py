"""SQuAD's shapes: its JSON files, and the ``answers`` of its rows, which in version 2 may be empty."""

from __future__ import annotations

from typing import Any


def squad_rows(content: Any) -> list[dict[str, Any]] | None:
    """The rows of a SQuAD file, with the columns that its data set on the hub has; None if it is no SQuAD file."""
    try:
        return [
            {
                "title": article.get("title", ""),
                "context": paragraph["context"],
                "question": question["question"],
                "answers": {"text": [answer["text"] for answer in question["answers"]]},
            }
            for article in content["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    except (AttributeError, KeyError, TypeError):
        return None


def is_unanswerable(answers: Any) -> bool:
    """Whether the ``answers`` of a row say, as in SQuAD 2.0, that the passage does not answer the question."""
    if isinstance(answers, dict):
        answers = answers.get("text")
    return isinstance(answers, list | tuple) and not answers


def unanswerable_note(count: int, total: int) -> tuple[str, ...]:
    """What is said about rows that were left out because their passage does not answer the question."""
    if not count:
        return ()
    return (f"{count:,} of {total:,} questions have no answer in their passage, and are left out",)
