"""Texts with a class each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rank_search.core.errors import InputError
from rank_search.data.rows import column
from rank_search.data.splits import read_parts, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rank_search.config import ClassificationConfig
    from rank_search.data.rows import Row
    from rank_search.data.splits import Splits


@dataclass(frozen=True)
class Labelled:
    """A text and its class."""

    text: str
    label: str


def load_labelled(settings: ClassificationConfig) -> Splits[Labelled]:
    """Reads and splits classification data.

    Raises:
        InputError: the data can't be read, or a part has a class that training lacks.
    """

    def examples(rows: Sequence[Row]) -> list[Labelled]:
        texts = column(rows, settings.columns.text, "text")
        labels = column(rows, settings.columns.label, "label")
        return [Labelled(str(text), str(label)) for text, label in zip(texts, labels, strict=True)]

    parts = read_parts(settings.data, examples)
    splits = split(parts, settings, group=lambda example: example.text, needed=lambda example: example.label)
    known = {example.label for example in splits.train}
    if len(known) < 2:
        raise InputError(f"training has {len(known)} class; give at least two", field="task.columns.label")
    for part in ("validation", "test"):
        strangers = sorted({example.label for example in getattr(splits, part)} - known)
        if strangers:
            raise InputError(
                f"{part} has the class {strangers[0]!r}, which training lacks; add examples of it to training, or "
                "drop it",
                field=f"task.data.{part}",
            )
    return splits
