"""Queries and the documents to find: pairs in rows, a BEIR folder, or the standard library."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rank_search.config.tasks import STDLIB
from rank_search.core.errors import InputError
from rank_search.data.beir import is_beir, read_corpus, read_judgements
from rank_search.data.rows import column
from rank_search.data.splits import PARTS, fingerprint, named_parts, read_parts, split
from rank_search.data.stdlib import load_stdlib_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rank_search.config import RetrievalConfig
    from rank_search.data.rows import Row
    from rank_search.data.splits import Splits
    from rank_search.data.stdlib import Pair


@dataclass(frozen=True)
class Query:
    """A query with the documents that answer it.

    Attributes:
        text: the query.
        relevant: document (its position, or its id before there is one) → gain, above 0.
    """

    text: str
    relevant: Mapping[str, int]


@dataclass(frozen=True)
class SearchSplit:
    """Queries, and the documents that they are to be found among; splits may share their documents.

    Attributes:
        queries: their texts.
        documents: their texts.
        relevant: of each query, position of a document → gain, above 0.
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    relevant: tuple[Mapping[int, int], ...]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(query, document) of every relevant document."""
        return [(query, document) for query, found in enumerate(self.relevant) for document in found]


@dataclass(frozen=True)
class SearchData:
    """Retrieval data in its three parts."""

    train: SearchSplit
    validation: SearchSplit
    test: SearchSplit

    @property
    def fingerprint(self) -> str:
        """Changes when any text, any judgement, any part or any order changes."""
        shared = self.train.documents is self.test.documents
        content = {part: asdict(getattr(self, part)) for part in PARTS}
        if shared:  # a large corpus need not be hashed three times
            for part in PARTS[1:]:
                del content[part]["documents"]
        return fingerprint(content)


def load_searchable(settings: RetrievalConfig) -> SearchData:
    """Reads and splits retrieval data.

    Raises:
        InputError: the data can't be read.
    """
    if settings.data.source == STDLIB:
        found = load_stdlib_pairs(settings.validation_size, settings.test_size)
        return SearchData(*(_paired(getattr(found, part)) for part in PARTS))
    if settings.data.source.startswith("builtin:"):
        raise InputError(f"{settings.data.source!r} is not built in; write {STDLIB}", field="task.data.source")
    folder = Path(settings.data.source).expanduser()
    if is_beir(folder):
        return _judged(folder, settings)
    return _rows(settings)


def _paired(pairs: Sequence[Pair]) -> SearchSplit:
    """Each query with its own document, among those of its part alone."""
    return SearchSplit(
        queries=tuple(pair.query for pair in pairs),
        documents=tuple(pair.document for pair in pairs),
        relevant=tuple({position: 1} for position in range(len(pairs))),
    )


def _rows(settings: RetrievalConfig) -> SearchData:
    """Rows of query and document; a query in several rows has several documents."""
    columns = settings.columns

    def queries(rows: Sequence[Row]) -> list[Query]:
        found: dict[str, dict[str, int]] = {}
        texts = zip(column(rows, columns.query, "query"), column(rows, columns.document, "document"), strict=True)
        for query, document in texts:
            found.setdefault(str(query), {})[str(document)] = 1
        return [Query(text, relevant) for text, relevant in found.items()]

    parts = read_parts(settings.data, queries)
    documents = {document: document for part in parts.values() for query in part for document in query.relevant}
    return _placed(_apart(parts, settings), documents)


def _judged(folder: Path, settings: RetrievalConfig) -> SearchData:
    """A BEIR folder: every query is searched in the whole corpus."""
    documents = read_corpus(folder)
    parts = {
        part: [Query(text, relevant) for text, relevant in read_judgements(folder, settings.data, part, documents)]
        for part in named_parts(settings.data)
    }
    return _placed(_apart(parts, settings), documents)


def _apart(parts: dict[str, list[Query]], settings: RetrievalConfig) -> Splits[Query]:
    """Splits queries so that no document answers queries of two parts that were split off one another.

    Queries are linked where they share a document; those that are linked, however far apart, stay together.
    """
    numbers: dict[str, int] = {}
    links = [
        (row, numbers.setdefault(document, len(numbers)))
        for row, query in enumerate(parts["train"])
        for document in query.relevant
    ]
    rows = np.array([row for row, _ in links])
    nodes = np.array([number for _, number in links]) + len(parts["train"])
    size = len(parts["train"]) + len(numbers)
    _, component = connected_components(coo_array((np.ones(len(links)), (rows, nodes)), shape=(size, size)))
    first: dict[int, str] = {}  # of each component, the document that comes first by its text
    for document, number in numbers.items():
        found = int(component[len(parts["train"]) + number])
        first[found] = min(first.get(found, document), document)
    groups = {query.text: first[int(component[row])] for row, query in enumerate(parts["train"])}
    return split(parts, settings, group=lambda query: groups.get(query.text, query.text))


def _placed(splits: Splits[Query], documents: Mapping[str, str]) -> SearchData:
    """Puts positions for the documents' ids."""
    position = {name: place for place, name in enumerate(documents)}
    texts = tuple(documents.values())
    return SearchData(
        *(
            SearchSplit(
                queries=tuple(query.text for query in queries),
                documents=texts,
                relevant=tuple({position[name]: gain for name, gain in query.relevant.items()} for query in queries),
            )
            for queries in (splits.train, splits.validation, splits.test)
        )
    )
