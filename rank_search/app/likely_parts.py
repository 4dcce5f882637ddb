"""Which parts of a data set are for training, choosing and reporting, by their names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rank_search.core.errors import InputError
from rank_search.core.files import local_path
from rank_search.data.beir import is_beir, judged_parts
from rank_search.data.folders import DataFile, part_names
from rank_search.data.tables import hub_splits, is_saved, saved_splits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The words of a part's name that say what it is for.
_WORDS: Mapping[str, frozenset[str]] = {
    "train": frozenset({"train", "training"}),
    "validation": frozenset({"validation", "valid", "val", "dev"}),
    "test": frozenset({"test"}),
}


@dataclass(frozen=True)
class LikelyParts:
    """Parts of a data set.

    Attributes:
        fields: field of ``task.data`` → name of the part.
        remarks: what the user should know about the parts, in sentences.
    """

    fields: Mapping[str, str]
    remarks: tuple[str, ...] = ()


def likely_parts(data: str) -> LikelyParts:
    """Which files, qrels or splits are for training, choosing and reporting.

    Args:
        data: source of the data.

    Raises:
        InputError: no part is for training, or several may be.
    """
    names = _names(data)
    if not names:
        return LikelyParts({})
    if len(names) == 1:
        return LikelyParts({"train": names[0]})
    found = {field: _named(words, names) for field, words in _WORDS.items()}
    remarks = []
    if not found["train"] and len(found["validation"]) == 1:
        found |= {"train": found["validation"], "validation": []}
        remarks.append(
            f"No part is called train, so {found['train'][0]} is trained on, and validation is split off it."
        )
    if len(found["train"]) != 1:
        raise InputError(
            f"{data!r} has {'several parts' if found['train'] else 'no part'} with the word 'train' in the name "
            f"({', '.join(found['train'] or names[:10])}); name one file, or write the study file by hand from schema "
            "--template",
            field="--data",
        )
    fields = {field: matching[0] for field, matching in found.items() if len(matching) == 1}
    if unused := [name for name in names if name not in fields.values()]:
        remarks.append(f"Parts that are not used: {', '.join(unused[:10])}.")
    return LikelyParts(fields, tuple(remarks))


def _names(data: str) -> list[str]:
    """The names of all parts; empty where the data has no parts that have names."""
    folder = local_path(data, "--data")
    if folder.is_file():
        return []
    if is_beir(folder):
        return judged_parts(folder)
    if is_saved(folder):
        return saved_splits(folder)
    if not folder.is_dir():
        return hub_splits(data)
    if not (names := part_names(folder)):
        inside = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())[:5]) or "no other folder"
        raise InputError(
            f"{data!r} holds no data file; name a file, or a folder that holds some (in it: {inside})", field="--data"
        )
    return names


def _named(words: frozenset[str], names: Sequence[str]) -> list[str]:
    """The names that hold one of the words, whole, and no word of another part; if any is nothing else, those alone."""
    others = frozenset().union(*_WORDS.values()) - words
    matching = [name for name in names if _words_of(name) & words and not _words_of(name) & others]
    exact = [name for name in matching if _words_of(name) <= words]
    return exact or matching


def _words_of(name: str) -> set[str]:
    """The words of a name; they are separated by signs, digits or capital letters."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", DataFile.from_path(Path(name)).part)}
