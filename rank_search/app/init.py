"""Drafts a study file for a model and a data set, after a look at both."""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rank_search.config import DataConfig, ModelSource
from rank_search.core.errors import InputError, did_you_mean
from rank_search.data.beir import is_beir
from rank_search.data.rows import FORMATS, column, hub_splits, part_location, read_rows
from rank_search.models.load import explain_load_errors, read_config
from rank_search.models.source import locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rank_search.data.rows import Row

# What columns are called in the data sets that people have, the likeliest first.
_NAMES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "classification": {
        "text": ("text", "sentence", "content", "utterance", "review", "query", "question", "title"),
        "label": ("label", "category", "class", "intent", "labels", "target", "topic", "sentiment"),
    },
    "retrieval": {
        "query": ("query", "question", "anchor", "title", "sentence1"),
        "document": ("document", "positive", "passage", "context", "doc", "text", "answer", "code", "sentence2"),
    },
    "generation": {
        "question": ("question", "query", "instruction", "prompt", "input"),
        "answers": ("answers", "answer", "response", "output", "completion", "target"),
        "context": ("context", "passage", "document", "input", "text"),
    },
}
_PARTS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
_SAMPLE = 1000  # rows whose length is looked at
_STEP = 16  # lengths are rounded up to a multiple of this
_BATCH = {"classification": 32, "retrieval": 16, "generation": 8, "rag": 8}
_PASSES = 3  # over the training rows


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
        parts = _parts(data)
        rows = [] if is_beir(Path(data).expanduser()) else read_rows(DataConfig(source=data, **parts), "train")
    if not rows and kind not in (None, "retrieval"):
        raise InputError(f"{kind!r}: {data!r} is a BEIR folder, which is for retrieval; leave it out", field="--kind")
    if retriever is not None:
        with _said_of("--retriever"):
            read_config(ModelSource(source=retriever))
    with _said_of("--model"):
        likely = _likely(base, retriever)
    kind, columns = _task(kind or likely, rows)
    task: dict[str, Any] = {"kind": kind, "data": {"source": data, **parts}}
    if columns:
        task["columns"] = columns
    if kind == "rag":
        task["retriever"] = {"source": retriever}
    try:
        texts = {role: [str(text) for text in column(rows, name, role)] for role, name in columns.items()}
    except InputError as error:
        raise error.in_file(part_location(DataConfig(source=data, **parts), "train")) from None
    with _said_of("--model"):
        task |= _lengths(base, kind, texts)
    batch = max(2, min(_BATCH[kind], len(rows) // 4)) if rows else _BATCH[kind]
    steps = min(300, max(30, math.ceil(_PASSES * len(rows) / batch))) if rows else 60
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{Path(data).stem[:80]}-{kind}").strip("-._") or kind
    settings = {
        "study": name,
        "model": {"source": model},
        "task": task,
        "space": {"ladder": [0, 1, 2, 4, 8], "group_by": "layer"},
        "adapter": {"scale": "rslora", "alpha": 4},
        "training": {"steps": steps, "batch_size": batch, "learning_rate": 0.002},
        "search": {"trials": 25},
    }
    seen = f"# {len(rows):,} rows to train on" if rows else "# A BEIR folder"
    head = f"{seen}. All fields there are: python -m rank_search schema --template\n"
    return Draft(name, head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


@contextmanager
def _said_of(option: str) -> Iterator[None]:
    """Says of an option what is said of the study file's fields, but for what is said of a file."""
    try:
        yield
    except InputError as error:
        raise InputError(error.problem, field=None if error.file else option, file=error.file) from error


def _parts(data: str) -> dict[str, str]:
    """Which files, qrels or hub splits are for training, choosing and reporting, by their names."""
    folder = Path(data).expanduser()
    if folder.is_file():
        return {}
    if is_beir(folder):
        names = [path.stem for path in (folder / "qrels").glob("*.tsv")]
    elif folder.is_dir():
        names = [path.name for path in folder.iterdir() if path.suffix.lower() in FORMATS]
    else:
        names = hub_splits(data)
    found = {
        part: min((name for name in names if any(word in name.lower() for word in words)), key=len, default=None)
        for part, words in _PARTS.items()
    }
    if found["train"] is None:
        if len(names) != 1:
            raise InputError(f"{data!r} has no file with 'train' in its name; name one file", field="--data")
        return {"train": names[0]}
    return {part: name for part, name in found.items() if name is not None}


def _likely(model: ModelSource, retriever: str | None) -> str | None:
    """The task that a model is made for; None for an encoder, of which the columns decide."""
    if retriever is not None:
        return "rag"
    architectures = read_config(model).architectures or []
    causal = locate(model).gguf_file or any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures)
    return "generation" if causal else None


def _task(kind: str | None, rows: Sequence[Row]) -> tuple[str, dict[str, str]]:
    """The task and its columns.

    Raises:
        InputError: the columns do not say which it is.
    """
    if not rows:
        return "retrieval", {}
    known = list(rows[0])
    for candidate in [kind] if kind else ["classification", "retrieval"]:
        names = _NAMES["generation" if candidate == "rag" else candidate]
        columns: dict[str, str] = {}
        for role, usual in names.items():
            free = [name for name in usual if name in known and name not in columns.values()]
            if free:
                columns[role] = free[0]
        if columns.keys() == names.keys():
            return candidate, columns
    wanted = f"a {kind}" if kind else "a classification or retrieval"
    raise InputError(
        f"the columns {', '.join(known)} do not look like those of {wanted} task; rename them, "
        "or write the study file by hand from schema --template",
        field="--data",
    )


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
