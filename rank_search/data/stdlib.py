"""Code search over the Python standard library of the running interpreter.

The data is real text that every machine has. The query is the first sentence of a function's docstring,
and the document is the function's code without the docstring.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rank_search.core.errors import InputError
from rank_search.data.splits import LEAST_SELECTION, Splits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rank_search.config import TaskConfig

_EXCLUDED_FOLDERS = {"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "ensurepip", "site-packages"}
_SELECTION = 2  # the part of the pairs that is for the choice of a map, where the study file asks for it
_MIN_QUERY_WORDS = 3


@dataclass(frozen=True)
class Pair:
    """A query and the one document that answers it."""

    query: str
    document: str

    @property
    def digest(self) -> str:
        """SHA-256 of both texts; it identifies the pair and decides its split."""
        return hashlib.sha256(f"{self.query}\0{self.document}".encode()).hexdigest()


def load_stdlib_pairs(settings: TaskConfig, root: Path | None = None) -> Splits[Pair]:
    """Reads the standard library and splits its pairs by their hash.

    Args:
        settings: sizes of the parts, and the share of the pairs that each of them may have.
        root: folder to read instead of the interpreter's own library.

    Raises:
        InputError: the parts leave nothing to train on.
    """
    pairs = sorted(_unique(_read_pairs(root or Path(sysconfig.get_path("stdlib")))), key=lambda pair: pair.digest)
    held_out = int(settings.data.held_out * 2**32)
    # The last 32 bits of the digest decide the split; the first bits decide the order, by the sort above.
    positions = [int(pair.digest[-8:], 16) // held_out for pair in pairs]
    parts = [
        [pair for pair, place in zip(pairs, positions, strict=True) if place == part] for part in range(_SELECTION + 1)
    ]
    validation, test = parts[0][: settings.validation_size], parts[1][: settings.test_size]
    selection = parts[_SELECTION][: settings.selection_wanted]
    if len(selection) < LEAST_SELECTION:
        selection = []
    held_out_parts = {0, 1, _SELECTION} if selection else {0, 1}
    train = [pair for pair, place in zip(pairs, positions, strict=True) if place not in held_out_parts]
    if not train:
        raise InputError("leaves nothing to train on; lower it", field="task.data.held_out")
    return Splits(tuple(train), (*validation, *selection), tuple(test), selection=len(selection))


def _unique(pairs: Iterator[Pair]) -> Iterator[Pair]:
    """Drops pairs whose query or document came before, so that each query has exactly one right document."""
    queries: set[str] = set()
    documents: set[str] = set()
    for pair in pairs:
        query = pair.query.casefold()
        if query not in queries and pair.document not in documents:
            queries.add(query)
            documents.add(pair.document)
            yield pair


def _read_pairs(root: Path) -> Iterator[Pair]:
    """Pairs of every readable file, in the order of the paths; files that Python can't parse are skipped."""
    for path in sorted(root.rglob("*.py")):
        folders = path.relative_to(root).parts[:-1]
        if any(folder in _EXCLUDED_FOLDERS or folder.startswith("config-") for folder in folders):
            continue
        try:
            source = path.read_text(encoding="utf-8")
            tree = ast.parse(source)
        except (OSError, SyntaxError, ValueError):
            continue
        lines = source.split("\n")  # ast counts lines this way; splitlines would also split at form feeds
        for function in _functions(tree.body):
            pair = _pair_from_function(function, lines)
            if pair is not None:
                yield pair


def _functions(statements: Sequence[ast.AST]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions at any depth. It visits only statements, which is several times as fast as ``ast.walk``."""
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement
        for block in ("body", "handlers", "orelse", "finalbody", "cases"):
            yield from _functions(getattr(statement, block, []))


def _pair_from_function(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> Pair | None:
    """The pair of a function; None without a docstring, with a short one, or without code beside it."""
    docstring = ast.get_docstring(node)
    if not docstring or len(node.body) < 2:
        return None
    query = first_sentence(docstring)
    if len(query.split()) < _MIN_QUERY_WORDS:
        return None
    docstring_node = node.body[0]
    end = node.end_lineno or node.lineno
    code = lines[node.lineno - 1 : docstring_node.lineno - 1]
    code += lines[docstring_node.end_lineno or docstring_node.lineno : end]
    return Pair(query, textwrap.dedent("\n".join(code)))


def first_sentence(docstring: str) -> str:
    """The first sentence of a docstring, on one line.

    It ends at a full stop, question mark or exclamation mark before a capital letter, or at the first empty line.
    """
    paragraph = " ".join(re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0].split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph, maxsplit=1)[0]
