"""Classification data: texts with one class each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rank_search.core.errors import InputError
from rank_search.data.rows import class_column, text_column
from rank_search.data.splits import Part, read_parts, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rank_search.config import ClassificationConfig
    from rank_search.data.rows import Row
    from rank_search.data.splits import Splits


@dataclass(frozen=True)
class LabelledText:
    """A text and its class."""

    text: str
    label: str


def load_labelled(settings: ClassificationConfig) -> Splits[LabelledText]:
    """Reads and splits classification data.

    Raises:
        InputError: the data can't be read, training has a single class, or another part has a class that training
            lacks.
    """

    def examples(rows: Sequence[Row]) -> Part[LabelledText]:
        texts = text_column(rows, settings.columns.text, "text")
        labels = class_column(rows, settings.columns.label, "label")
        return Part([LabelledText(*pair) for pair in zip(texts, labels, strict=True)])

    parts = read_parts(settings.data, examples)
    splits = split(
        parts,
        settings,
        text=lambda example: example.text,
        group=lambda example: example.text,
        keep_in_train=lambda example: example.label,
    )
    known = {example.label for example in splits.train}
    if len(known) < 2:
        raise InputError(f"training has {len(known)} class; it needs at least two", field="task.columns.label")
    for part in ("validation", "test"):
        unknown = sorted({example.label for example in getattr(splits, part)} - known)
        if unknown:
            raise InputError(
                f"{part} has the class {unknown[0]!r}, which training lacks; add examples of it to training, or "
                "remove it",
                field=f"task.data.{part}",
            )
    return splits
