"""BEIR folders (arXiv:2104.08663): ``corpus.jsonl``, ``queries.jsonl``, ``qrels/*.tsv``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.core.errors import InputError, did_you_mean
from rank_search.data.rows import is_text, read_file, read_jsonl

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rank_search.config import DataConfig


def is_beir(folder: Path) -> bool:
    """Whether a folder is laid out as BEIR's are."""
    return (folder / "corpus.jsonl").is_file() and (folder / "qrels").is_dir()


def read_corpus(folder: Path) -> dict[str, str]:
    """Document id → title and text.

    Raises:
        InputError: a line lacks its id or its text.
    """
    path = folder / "corpus.jsonl"
    return {name: text for name, text in _texts(path).items() if text}


def read_judgements(
    folder: Path, data: DataConfig, part: str, documents: Mapping[str, str]
) -> list[tuple[str, dict[str, int]]]:
    """Queries of one part with their relevant documents: (text, document id → gain above 0).

    Raises:
        InputError: there is no such part, or it judges a query or a document that is not there.
    """
    name = getattr(data, part)
    path = folder / "qrels" / f"{name}.tsv"
    if not path.is_file():
        known = [file.stem for file in path.parent.glob("*.tsv")]
        raise InputError(f"{str(path)!r} is missing; {did_you_mean(name, known)}", field=f"task.data.{part}")
    queries = _texts(folder / "queries.jsonl")
    gains: dict[tuple[str, str], int] = {}
    found: dict[str, dict[str, int]] = {}
    for number, row in enumerate(read_file(path), start=2):
        try:
            query, document, gain = row["query-id"], row["corpus-id"], int(row["score"])
        except (KeyError, ValueError):
            raise InputError(
                f"line {number} is no judgement; write query-id, corpus-id and a whole score", file=str(path)
            ) from None
        for what, known_names in ((query, queries), (document, documents)):
            if what not in known_names:
                raise InputError(
                    f"line {number} names {what!r}, which is in neither queries.jsonl nor corpus.jsonl; mend it",
                    file=str(path),
                )
        if gains.setdefault((query, document), gain) != gain:
            raise InputError(f"line {number} judges {query!r} and {document!r} again; drop one line", file=str(path))
        if gain > 0:
            found.setdefault(query, {})[document] = gain
    return [(queries[query], relevant) for query, relevant in found.items()]


def _texts(path: Path) -> dict[str, str]:
    """``_id`` → title (where there is one) and text."""
    if not path.is_file():
        raise InputError("is missing; a BEIR folder has corpus.jsonl, queries.jsonl and qrels", file=str(path))
    texts: dict[str, str] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        name, title, text = row.get("_id"), row.get("title") or "", row.get("text")
        if name is None or not (is_text(title) and is_text(text)):
            raise InputError(f"object {number} has no _id, or a title or text that is none; mend it", file=str(path))
        if str(name) in texts:
            raise InputError(f"object {number} has the _id {name!r} of an earlier one; drop one", file=str(path))
        texts[str(name)] = f"{title} {text}".strip()
    return texts
