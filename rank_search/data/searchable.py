"""Retrieval data: queries and their documents from rows, a BEIR folder, or the standard library."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rank_search.config.tasks import STDLIB
from rank_search.core.errors import InputError
from rank_search.core.files import local_path
from rank_search.data.beir import is_beir, read_corpus, read_judgements
from rank_search.data.judged import check_all_right
from rank_search.data.rows import text_column
from rank_search.data.splits import PARTS, Part, fingerprint, named_parts, read_parts, split
from rank_search.data.squad import is_unanswerable, unanswerable_note
from rank_search.data.stdlib import load_stdlib_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rank_search.config import RetrievalConfig
    from rank_search.data.rows import Row
    from rank_search.data.splits import Splits
    from rank_search.data.stdlib import Pair

_NEGATIVES = re.compile(r"(hard_)?neg(ative)?s?(_?\d+)?")  # columns of wrong documents


@dataclass(frozen=True)
class Query:
    """A query with the documents that answer it.

    Attributes:
        text: the query.
        relevant: document id → gain, above 0.
    """

    text: str
    relevant: Mapping[str, int]


@dataclass(frozen=True)
class SearchSplit:
    """Queries, and the documents that are searched; splits may share their documents.

    Attributes:
        queries: texts of the queries.
        documents: texts of the documents.
        relevant: for each query: position of a relevant document → gain, above 0.
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    relevant: tuple[Mapping[int, int], ...]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Positions (query, document) of every relevant document."""
        return [(query, document) for query, gains in enumerate(self.relevant) for document in gains]


@dataclass(frozen=True)
class SearchData:
    """Retrieval data in three parts: train, validation and test.

    Attributes:
        train: to train on.
        validation: to choose by.
        test: to report on.
        notes: sentences for the user, as in `Splits`.
        selection: how many of the last validation queries are for the choice of a map alone.
    """

    train: SearchSplit
    validation: SearchSplit
    test: SearchSplit
    notes: tuple[str, ...] = ()
    selection: int = 0

    @property
    def fingerprint(self) -> str:
        """A digest that changes when any text, judgement, part or order changes."""
        shared = self.train.documents is self.test.documents
        content = {part: asdict(getattr(self, part)) for part in PARTS}
        if shared:  # hash a large corpus once, not three times
            for part in PARTS[1:]:
                del content[part]["documents"]
        return fingerprint(content)


def load_searchable(settings: RetrievalConfig) -> SearchData:
    """Reads and splits retrieval data.

    Raises:
        InputError: the data can't be read.
    """
    if settings.data.source == STDLIB:
        splits = load_stdlib_pairs(settings)
        train, validation, test = map(_split_from_pairs, (splits.train, splits.validation, splits.test))
        return SearchData(train, validation, test, selection=splits.selection)
    if settings.data.source.startswith("builtin:"):
        raise InputError(f"{settings.data.source!r} is not built in; write {STDLIB}", field="task.data.source")
    folder = local_path(settings.data.source, "task.data.source")
    if is_beir(folder):
        return _load_beir(folder, settings)
    return _load_rows(settings)


def _split_from_pairs(pairs: Sequence[Pair]) -> SearchSplit:
    """A split in which each query has one document, and only the documents of the split are searched."""
    return SearchSplit(
        queries=tuple(pair.query for pair in pairs),
        documents=tuple(pair.document for pair in pairs),
        relevant=tuple({position: 1} for position in range(len(pairs))),
    )


def _load_rows(settings: RetrievalConfig) -> SearchData:
    """Reads rows of a query and a document; a query in several rows has several documents."""
    columns = settings.columns

    def queries(rows: Sequence[Row]) -> Part[Query]:
        check_all_right(rows, {columns.query, columns.document})
        pairs = zip(
            text_column(rows, columns.query, "query"), text_column(rows, columns.document, "document"), strict=True
        )
        # A passage that does not answer its question, as in SQuAD 2.0, is no right document.
        right = [pair for row, pair in zip(rows, pairs, strict=True) if not is_unanswerable(row.get("answers"))]
        relevant: dict[str, dict[str, int]] = {}
        for query, document in right:
            relevant.setdefault(query, {})[document] = 1
        notes = unanswerable_note(len(rows) - len(right), len(rows)) + _unused_negatives(rows)
        return Part([Query(text, gains) for text, gains in relevant.items()], notes)

    parts = read_parts(settings.data, queries)
    documents = {
        document: document for part in parts.values() for query in part.examples for document in query.relevant
    }
    return _index_documents(_split_queries(parts, settings), documents)


def _unused_negatives(rows: Sequence[Row]) -> tuple[str, ...]:
    names = [name for name in rows[0] if _NEGATIVES.fullmatch(name.strip().casefold())]
    return tuple(f"column {name!r} is not used: the other documents of a batch are the negatives" for name in names)


def _load_beir(folder: Path, settings: RetrievalConfig) -> SearchData:
    """Reads a BEIR folder; every query searches the whole corpus."""
    corpus = read_corpus(folder)
    documents = {name: text for name, text in corpus.items() if text}
    parts = {
        part: Part([Query(text, gains) for text, gains in read_judgements(folder, settings.data, part, documents)])
        for part in named_parts(settings.data)
    }
    data = _index_documents(_split_queries(parts, settings), documents)
    if empty := len(corpus) - len(documents):
        note = f"{empty:,} of {len(corpus):,} documents of the corpus have no text, and are left out"
        data = replace(data, notes=(note, *data.notes))
    return data


def _split_queries(parts: dict[str, Part[Query]], settings: RetrievalConfig) -> Splits[Query]:
    """Splits off validation and test queries so that no two parts share a relevant document.

    Queries that share a document are linked. All queries of a connected component go to the same part.
    """
    train = parts["train"].examples
    numbers: dict[str, int] = {}
    links = [
        (row, numbers.setdefault(document, len(numbers)))
        for row, query in enumerate(train)
        for document in query.relevant
    ]
    rows = np.array([row for row, _ in links], dtype=int)
    nodes = np.array([number for _, number in links], dtype=int) + len(train)
    size = len(train) + len(numbers)
    _, component = connected_components(coo_array((np.ones(len(links)), (rows, nodes)), shape=(size, size)))
    first: dict[int, str] = {}  # component → the first of its documents in alphabetical order
    for document, number in numbers.items():
        label = int(component[len(train) + number])
        first[label] = min(first.get(label, document), document)
    groups = {query.text: first[int(component[row])] for row, query in enumerate(train)}
    return split(parts, settings, text=lambda query: query.text, group=lambda query: groups.get(query.text, query.text))


def _index_documents(splits: Splits[Query], documents: Mapping[str, str]) -> SearchData:
    """Replaces document ids by positions in the corpus."""
    position = {name: index for index, name in enumerate(documents)}
    texts = tuple(documents.values())

    def indexed(queries: Sequence[Query]) -> SearchSplit:
        return SearchSplit(
            queries=tuple(query.text for query in queries),
            documents=texts,
            relevant=tuple({position[name]: gain for name, gain in query.relevant.items()} for query in queries),
        )

    train, validation, test = (indexed(part) for part in (splits.train, splits.validation, splits.test))
    return SearchData(train, validation, test, splits.notes, splits.selection)
