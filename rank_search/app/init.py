"""Drafts a study file for a model and a data set, after a look at both."""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rank_search.app.likely_parts import likely_parts
from rank_search.app.likely_task import likely_task
from rank_search.config import DataConfig, ModelSource
from rank_search.core.errors import InputError, did_you_mean, printable
from rank_search.data.answered import passage_column
from rank_search.data.beir import is_beir
from rank_search.data.judged import check_all_right
from rank_search.data.rows import column, part_location, read_rows, text_column
from rank_search.models.load import explain_load_errors, read_config
from rank_search.models.source import locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rank_search.data.rows import Row

_SAMPLE = 1000  # rows whose length is looked at
_STEP = 16  # lengths are rounded up to a multiple of this
_BATCH = {"classification": 32, "retrieval": 16, "generation": 8, "rag": 8}
_PASSES = 3  # over the training rows
_STEPS = (60, 600)  # at least and at most
# A head starts from nothing. At the adapters' rate 150 steps leave it at 0.43 of BANKING77's intents, at this one 0.74.
_HEAD_LEARNING_RATE = 0.05


@dataclass(frozen=True)
class Draft:
    """A drafted study file.

    Attributes:
        name: the study's name.
        text: the file's text.
    """

    name: str
    text: str


def draft(model: str, data: str, kind: str | None = None, retriever: str | None = None) -> Draft:
    """Looks at a model and at data, and writes down a study of them.

    Args:
        model: source of the base model; of the generator, for RAG.
        data: source of the data.
        kind: the task; by default what model and columns allow.
        retriever: source of the retriever, for RAG.

    Raises:
        InputError: model or data can't be read, or no task fits them.
    """
    base = ModelSource(source=model)
    with _said_of("--data"):
        parts = likely_parts(data)
        source = DataConfig(source=data, **parts.fields)
        rows = [] if is_beir(Path(data).expanduser()) else read_rows(source, "train")
    if not rows and kind not in (None, "retrieval"):
        raise InputError(f"{kind!r}: {data!r} is a BEIR folder, which is for retrieval; leave it out", field="--kind")
    if retriever is not None:
        with _said_of("--retriever"):
            read_config(ModelSource(source=retriever))
    with _said_of("--model"):
        read_config(base)
        kind, columns = likely_task(base, retriever, kind, list(rows[0])) if rows else ("retrieval", {})
    task: dict[str, Any] = {"kind": kind, "data": {"source": data, **parts.fields}}
    if columns:
        task["columns"] = columns
    if kind == "rag":
        task["retriever"] = {"source": retriever}
    try:
        texts = _texts(kind, rows, columns)
    except InputError as error:
        raise error.in_file(part_location(source, "train")) from None
    with _said_of("--model"):
        task |= _lengths(base, kind, texts)
    batch = max(2, min(_BATCH[kind], len(rows) // 4)) if rows else _BATCH[kind]
    least, most = _STEPS
    steps = min(most, max(least, math.ceil(_PASSES * len(rows) / batch))) if rows else least
    rate_of_head = {"head_learning_rate": _HEAD_LEARNING_RATE} if kind == "classification" else {}
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{Path(data).stem[:80]}-{kind}").strip("-._") or kind
    settings = {
        "study": name,
        "model": {"source": model},
        "task": task,
        "space": {"ladder": [0, 1, 2, 4, 8], "group_by": "layer"},
        "adapter": {"scale": "rslora", "alpha": 4},
        "training": {"steps": steps, "batch_size": batch, "learning_rate": 0.002, **rate_of_head},
        "search": {"trials": 25},
    }
    seen = f"{len(rows):,} rows to train on" if rows else "A BEIR folder"
    remarks = [f"{seen}. All fields there are: python -m rank_search schema --template", *parts.remarks]
    if unused := [name for name in (rows[0] if rows else ()) if name not in columns.values()]:
        remarks.append(f"Columns that are not used: {', '.join(unused)}.")
    head = "".join(f"# {printable(remark)}\n" for remark in remarks)
    return Draft(name, head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


@contextmanager
def _said_of(option: str) -> Iterator[None]:
    """Says of an option what is said of the study file's fields, but for what is said of a file or an option."""
    try:
        yield
    except InputError as error:
        if (error.field or "").startswith("--"):
            raise
        raise InputError(error.problem, field=None if error.file else option, file=error.file) from error


def _texts(kind: str, rows: Sequence[Row], columns: Mapping[str, str]) -> dict[str, list[str]]:
    """The texts of each column but for the answers, which may be lists; checks what the task will check."""
    if rows and kind != "classification":
        check_all_right(rows, columns.values())
    texts = {}
    for role, name in columns.items():
        if role == "answers":
            column(rows, name, role)
        else:
            texts[role] = passage_column(rows, name) if role == "context" else text_column(rows, name, role)
    return texts


def _lengths(model: ModelSource, kind: str, texts: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Token limits that 95 % of the texts of each column keep within."""
    fields = {
        "classification": {"length": "text"},
        "retrieval": {"query_length": "query", "document_length": "document"},
    }.get(kind, {"passage_length": "context"})
    if not texts:
        return {}
    from transformers import AutoTokenizer

    located = locate(model)
    with explain_load_errors(model):
        tokenizer = AutoTokenizer.from_pretrained(located.path_or_id, **located.arguments)
    limits = {}
    for field, role in fields.items():
        sample = texts[role][:: max(1, len(texts[role]) // _SAMPLE)]
        lengths = sorted(len(ids) for ids in tokenizer(sample)["input_ids"])
        high = lengths[int(0.95 * (len(lengths) - 1))]
        limits[field] = min(_STEP * math.ceil(high / _STEP), tokenizer.model_max_length)
    return limits


def check_kind(kind: str | None, retriever: str | None) -> None:
    """Checks the options of ``init`` against each other.

    Raises:
        InputError: an unknown kind, or a retriever missing or out of place.
    """
    if kind is not None and kind not in _BATCH:
        raise InputError(f"{kind!r} is no task; {did_you_mean(kind, _BATCH)}", field="--kind")
    if kind == "rag" and retriever is None:
        raise InputError("is missing: rag needs a sentence embedder beside --model", field="--retriever")
    if kind not in (None, "rag") and retriever is not None:
        raise InputError(f"is of no use to {kind}; leave it out", field="--retriever")
