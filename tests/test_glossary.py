"""The glossary's words are those of the code."""

import importlib
import re
from operator import attrgetter

import pytest

from tests.conftest import ROOT

ROWS = re.findall(
    r"^\| \*\*(.+?)\*\* \|.*\| `([\w.]+)` \|$", (ROOT / "docs/reference/glossary.md").read_text(), re.MULTILINE
)


@pytest.mark.parametrize(("word", "place"), ROWS, ids=[word for word, _ in ROWS])
def test_a_word_names_something_in_the_code(word, place) -> None:
    parts = place.split(".")
    at = next(i for i in range(len(parts), 0, -1) if _is_module(parts[:i]))
    found = importlib.import_module(".".join(["rank_search", *parts[:at]]))
    assert attrgetter(".".join(parts[at:]))(found).__doc__ if parts[at:] else found.__doc__


def _is_module(parts: list[str]) -> bool:
    base = (ROOT / "rank_search").joinpath(*parts)
    return base.with_suffix(".py").is_file() or base.is_dir()


def test_words_are_listed_once() -> None:
    words = [word for word, _ in ROWS]
    assert len(words) > 30
    assert len(words) == len(set(words))
