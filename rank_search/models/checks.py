"""Says what is the matter with a model: its class, its files, or files that do not belong together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import InputError
from rank_search.models.source import locate

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from rank_search.config import ModelSource

_KINDS = {"AutoModelForCausalLM": "causal LM", "AutoModelForSequenceClassification": "text classifier"}
# Tokens that a tokenizer puts into inputs by itself.
_OWN_TOKENS = ("pad_token", "bos_token", "eos_token", "cls_token", "sep_token", "unk_token")


def check_class(config: ModelSource, settings: PretrainedConfig, auto_class: Any) -> None:
    """Checks that transformers has a class for a model and a task.

    Args:
        config: source of the model.
        settings: its configuration.
        auto_class: the class of transformers that would load it.

    Raises:
        InputError: it has none.
    """
    name = auto_class.__name__
    if type(settings) in auto_class._model_mapping or name in (getattr(settings, "auto_map", None) or {}):
        return
    kind = _KINDS.get(name, "encoder")
    raise InputError(
        f"{config.source!r} is a model of type {settings.model_type!r}, of which transformers has no {kind} ({name}); "
        "name a model of another type, or choose another task.kind",
        field="model.source",
    )


def load_advice(config: ModelSource, error: Exception) -> str:
    """What to do about a model that can't be loaded, with what is the matter if its files tell it.

    Args:
        config: source of the model.
        error: the exception of the loader.
    """
    text, folder = str(error), Path(locate(config).path_or_id)
    if "trust_remote_code" in text:
        return "its files bring Python code; set model.trust_remote_code: true if you trust it"
    if "does not recognize this architecture" in text:
        return "install a version of transformers that knows it"
    if not folder.is_dir():
        return "without a network, name a folder that holds the model"
    weights = {path.name for path in folder.iterdir() if path.suffix in {".safetensors", ".bin", ".gguf", ".h5", ".pt"}}
    if weights and not any(name.endswith((".safetensors", ".gguf")) for name in weights):
        return (
            f"it has its weights in {min(weights)} only, a file that can run code when it is read, and so is not read; "
            "load it where you trust it and write it again with save_pretrained, as model.safetensors"
        )
    if not weights and (folder / "config.json").is_file():
        return "the folder holds no weights; add its model.safetensors"
    return "its files are damaged, or of a kind that transformers does not know; download them again"


def check_vocabulary(config: ModelSource, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Checks that a model has an embedding for each token that its tokenizer makes of a text.

    Some models of the hub have further special tokens, such as one for images, that no text contains.

    Args:
        config: source of the model.
        model: the model.
        tokenizer: its tokenizer.

    Raises:
        InputError: tokens were added to the tokenizer, and the model was not resized.
    """
    embeddings = getattr(model.get_input_embeddings(), "num_embeddings", None)
    if embeddings is None:
        return
    own = {getattr(tokenizer, name) for name in _OWN_TOKENS}
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special} - own
    beyond = {token: i for token, i in tokenizer.get_vocab().items() if i >= embeddings and token not in special}
    if beyond:
        first = min(beyond, key=beyond.__getitem__)
        raise InputError(
            f"{config.source!r}: the tokenizer knows {len(beyond)} tokens that the model has no embedding for, such as "
            f"{first!r} ({beyond[first]}, of {embeddings} embeddings); call model.resize_token_embeddings, or restore "
            "the tokenizer's files",
            field="model.source",
        )
