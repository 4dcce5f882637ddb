"""BEIR folders (arXiv:2104.08663): ``corpus.jsonl``, ``queries.jsonl``, ``qrels/*.tsv``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.core.errors import InputError, did_you_mean
from rank_search.data.files import read_file, read_jsonl
from rank_search.data.limits import LONGEST_TEXT
from rank_search.data.rows import is_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rank_search.config import DataConfig


def is_beir(folder: Path) -> bool:
    """Whether a folder has the layout of a BEIR data set."""
    return _file(folder, "corpus").is_file() and (folder / "qrels").is_dir()


def _file(folder: Path, name: str) -> Path:
    """``NAME.jsonl`` of a folder, or ``NAME.jsonl.gz`` if there is only that."""
    plain, compressed = folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"
    return compressed if compressed.is_file() and not plain.is_file() else plain


def read_corpus(folder: Path) -> dict[str, str]:
    """Document id → title and text, which may both be empty.

    Raises:
        InputError: a line lacks its id or its text, or repeats an id.
    """
    return _texts(_file(folder, "corpus"))


def judged_parts(folder: Path) -> list[str]:
    """The parts that a folder has judgements of, in alphabetical order."""
    return sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))


def read_judgements(
    folder: Path, data: DataConfig, part: str, documents: Mapping[str, str]
) -> list[tuple[str, dict[str, int]]]:
    """Queries of one part with their relevant documents.

    Args:
        folder: the BEIR folder.
        data: names the file of each part.
        part: ``train``, ``validation`` or ``test``.
        documents: the corpus by document id.

    Returns:
        For each query that has a relevant document: its text, and document id → gain, above 0.

    Raises:
        InputError: there is no such part, or it judges a query or a document that does not exist.
    """
    name = getattr(data, part)
    path = folder / "qrels" / f"{name}.tsv"
    if not path.is_file():
        known = did_you_mean(name, judged_parts(folder))
        raise InputError(f"{str(path)!r} is missing; {known}", field=f"task.data.{part}")
    queries = {name: text for name, text in _texts(_file(folder, "queries")).items() if text}
    gains: dict[tuple[str, str], int] = {}
    relevant: dict[str, dict[str, int]] = {}
    for number, row in enumerate(read_file(path), start=2):
        try:
            query, document, gain = row["query-id"], row["corpus-id"], int(row["score"])
        except (KeyError, ValueError):
            raise InputError(
                f"line {number} is not a judgement; write query-id, corpus-id and a whole-number score", file=str(path)
            ) from None
        for name_in_row, known_names in ((query, queries), (document, documents)):
            if name_in_row not in known_names:
                raise InputError(
                    f"line {number} names {name_in_row!r}, which is in neither queries.jsonl nor corpus.jsonl, or has "
                    "no text there; fix it",
                    file=str(path),
                )
        if gains.setdefault((query, document), gain) != gain:
            raise InputError(f"line {number} judges {query!r} and {document!r} again; remove one line", file=str(path))
        if gain > 0:
            relevant.setdefault(query, {})[document] = gain
    return [(queries[query], document_gains) for query, document_gains in relevant.items()]


def _texts(path: Path) -> dict[str, str]:
    """``_id`` → title, if there is one, and text."""
    if not path.is_file():
        raise InputError("is missing; a BEIR folder needs corpus.jsonl, queries.jsonl and qrels", file=str(path))
    texts: dict[str, str] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        name, title, text = row.get("_id"), row.get("title") or "", row.get("text")
        known_id = is_text(name) or (isinstance(name, int) and not isinstance(name, bool))
        if not (known_id and is_text(title) and is_text(text)):
            raise InputError(f"object {number} lacks _id, or its title or text is not text; fix it", file=str(path))
        if str(name) in texts:
            raise InputError(f"object {number} repeats the _id {name!r}; remove one of them", file=str(path))
        texts[str(name)] = f"{title} {text}".strip()
        if len(texts[str(name)]) > LONGEST_TEXT:
            raise InputError(
                f"object {number} has a text of more than {LONGEST_TEXT:,} characters; split it, or remove it",
                file=str(path),
            )
    return texts
