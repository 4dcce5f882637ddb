"""Which task a model and the columns of a data set fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.core.errors import InputError
from rank_search.data.judged import judgements
from rank_search.models.load import read_config
from rank_search.models.source import has_file, locate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PretrainedConfig

    from rank_search.config import ModelSource

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
_PAIRED = {  # names of columns that are nothing but halves of a pair
    "query": {"query", "question", "anchor", "sentence1"},
    "document": {"document", "positive", "passage", "context", "doc", "answer", "sentence2"},
}


def likely_task(
    model: ModelSource, retriever: str | None, kind: str | None, known: Sequence[str]
) -> tuple[str, dict[str, str]]:
    """The task that a model and columns fit, and its columns.

    Args:
        model: the base model.
        retriever: source of the retriever, for RAG.
        kind: the task, if the user named it.
        known: names of the columns.

    Returns:
        The kind of the task, and field of ``task.columns`` → name of the column.

    Raises:
        InputError: the model can't be read, or the columns fit no task that it is for.
    """
    kinds = [kind] if kind else _kinds(model, retriever, known)
    for candidate in kinds:
        columns = _columns(candidate, known)
        if columns and (kind or candidate != "classification" or not _is_judged_pair(known)):
            return candidate, columns
    raise InputError(
        f"the columns {', '.join(known)} do not look like those of a {' or '.join(kinds)} task; rename them "
        f"({'; '.join(map(_wanted, kinds))}), or write the study file by hand from schema --template",
        field="--data",
    )


def _kinds(model: ModelSource, retriever: str | None, known: Sequence[str]) -> list[str]:
    """The tasks that a model is for, the likeliest first."""
    if retriever is not None:
        return ["rag"]
    settings = read_config(model)
    if has_file(model, "modules.json"):  # of sentence-transformers, whatever the transformer was made for
        return ["classification", "retrieval"]
    if _generates(model, settings):
        return ["generation", "classification"]
    if settings.is_encoder_decoder and _columns("generation", known):
        raise InputError(
            f"{model.source!r} is an encoder-decoder, and a generation task, which the columns {', '.join(known)} are "
            "for, needs a causal LM; name one, or write --kind retrieval",
            field="--model",
        )
    return ["classification", "retrieval"]


def _generates(model: ModelSource, settings: PretrainedConfig) -> bool:
    """Whether a model is a causal LM, such as the language model of a multimodal Gemma."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if locate(model).gguf_file:
        return True
    architectures = settings.architectures or []
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures):
        return True
    return any(name == MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(settings.model_type) for name in architectures)


def _columns(kind: str, known: Sequence[str]) -> dict[str, str]:
    """The columns of a task; empty if one is missing. Case and white space do not count."""
    plain = {name.strip().casefold(): name for name in reversed(known)}
    roles = _NAMES["generation" if kind == "rag" else kind]
    columns: dict[str, str] = {}
    for role, usual in roles.items():
        free = [plain[name] for name in usual if name in plain and plain[name] not in columns.values()]
        if free:
            columns[role] = free[0]
    return columns if columns.keys() == roles.keys() else {}


def _is_judged_pair(known: Sequence[str]) -> bool:
    """Whether the columns are two texts and a judgement of the pair, which is no class of one of the texts."""
    plain = {name.strip().casefold() for name in known}
    return bool(judgements(known)) and all(plain & names for names in _PAIRED.values())


def _wanted(kind: str) -> str:
    """The columns of a task, with a few of the names that are known."""
    roles = _NAMES["generation" if kind == "rag" else kind]
    return f"{kind} reads " + " and ".join(f"{usual[0]} (or {', '.join(usual[1:4])}, …)" for usual in roles.values())
