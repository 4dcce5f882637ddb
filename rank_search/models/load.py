"""Loads base models with transformers: as skeletons without weights, or whole."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from rank_search.core.errors import InputError
from rank_search.models.source import fingerprint, locate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from rank_search.config import ModelSource


@contextmanager
def explained(config: ModelSource) -> Iterator[None]:
    """Turns what the loaders raise into one line that says how to mend it."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"{config.source!r} needs a package that is not installed ({_first_line(error)}); for a GGUF file: "
            "pip install 'rank_search[generation]'",
            field="model.source",
        ) from error
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a damaged file may raise anything, from struct.error to IndexError
        mend = "without a network, name a folder that holds the model"
        if Path(locate(config).place).is_dir():
            mend = "its files are damaged, or of a kind that transformers does not know; get them anew"
        problem = f"{config.source!r} can't be loaded ({_first_line(error)}); {mend}"
        raise InputError(problem, field="model.source") from error


def _first_line(error: Exception) -> str:
    line = next((line for line in str(error).splitlines() if line.strip()), "")
    telling = line and isinstance(error, OSError | ValueError | ImportError)
    return line if telling else f"{type(error).__name__} {line}".strip()


def read_config(config: ModelSource) -> PretrainedConfig:
    """A model's own configuration.

    Raises:
        InputError: the source holds no model that transformers knows.
    """
    from transformers import AutoConfig

    located = locate(config)
    with explained(config):
        settings: PretrainedConfig = AutoConfig.from_pretrained(
            located.place,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            **located.arguments,
        )
    return settings


def skeleton(config: ModelSource, auto_class: Any, **settings: Any) -> nn.Module:
    """The base model on the meta device: every module and shape, no weights, no download of any.

    Args:
        config: where the model is.
        auto_class: the class of transformers that builds it, such as ``AutoModel``.
        settings: changes of the model's configuration, such as ``num_labels``.

    Raises:
        InputError: the source holds no model that transformers knows.
    """
    own = read_config(config)
    own.update(settings)
    with explained(config), torch.device("meta"):
        model: nn.Module = auto_class.from_config(own, trust_remote_code=config.trust_remote_code)
    return model


def weight_arguments(config: ModelSource, device: torch.device, whole: Sequence[str] = ()) -> dict[str, Any]:
    """Keyword arguments for ``from_pretrained`` that say how the weights are held.

    Args:
        config: the model's settings.
        device: where it will be.
        whole: modules that are to be trained, and so must not be compressed.

    Raises:
        InputError: 4-bit weights are asked for where bitsandbytes can't work.
    """
    arguments: dict[str, Any] = {"dtype": getattr(torch, config.dtype)}
    if config.source.lower().endswith(".gguf"):
        if config.quantization != "none":
            raise InputError(
                "a GGUF file is dequantised when it is loaded; name the original model", field="model.quantization"
            )
        return arguments
    arguments["use_safetensors"] = True
    if config.quantization == "none":
        return arguments
    if device.type != "cuda":
        raise InputError(f"'4bit' needs CUDA, and the device is {device.type}; write none", field="model.quantization")
    if find_spec("bitsandbytes") is None:
        raise InputError("'4bit' needs bitsandbytes; pip install 'rank_search[4bit]'", field="model.quantization")
    from transformers import BitsAndBytesConfig

    arguments["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=list(whole) or None,  # it is what 4-bit weights go by too
    )
    return arguments


@dataclass(frozen=True)
class Loaded:
    """A frozen base model with its tokenizer.

    Attributes:
        model: in evaluation mode: its own dropout stays off, so that the noise between two adapters is
            theirs alone.
        tokenizer: the model's own.
        max_length: tokens that the model can take.
        fingerprint: names the weights.
        missing: parameters that the source does not hold, or not in this shape, and that were drawn at random.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    fingerprint: str
    missing: frozenset[str]


def load(
    config: ModelSource, auto_class: Any, device: torch.device, *, whole: Sequence[str] = (), **settings: Any
) -> Loaded:
    """Loads a base model and freezes it.

    Weights that the source lacks, such as a classification head, are drawn from torch's generator.

    Args:
        config: where the model is.
        auto_class: the class of transformers that loads it.
        device: where to put it.
        whole: modules that are never compressed to 4 bits.
        settings: changes of the model's configuration.

    Raises:
        InputError: it can't be found or loaded.
    """
    from transformers import AutoTokenizer

    located = locate(config)
    common = {"revision": config.revision, "trust_remote_code": config.trust_remote_code, **located.arguments}
    weights = weight_arguments(config, device, whole)
    with explained(config):
        tokenizer = AutoTokenizer.from_pretrained(located.place, **common)
        model, report = auto_class.from_pretrained(
            located.place, output_loading_info=True, **weights, **common, **settings
        )
    if located.gguf_file:
        model = _plain(model)
    if config.quantization == "none":  # bitsandbytes has put its weights on the device already
        model.to(device)
    model.requires_grad_(False).eval()
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                f"{config.source!r} has a tokenizer with neither a pad nor an end token; give it one",
                field="model.source",
            )
        tokenizer.pad_token = tokenizer.eos_token
    # Decoders that classify look for the last token that is not the configuration's pad token.
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        max_length=max_length(model, tokenizer),
        fingerprint=fingerprint(located, config),
        missing=frozenset({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}),
    )


def refuse_missing(config: ModelSource, missing: Iterable[str]) -> None:
    """Checks that a base model is the one that the source holds, not one drawn at random.

    A pooler may be missing: many checkpoints are saved without it, and embedders seldom use it.

    Raises:
        InputError: naming one of the parameters that the source lacks.
    """
    if lacking := sorted(name for name in missing if "pooler" not in name.split(".")):
        raise InputError(
            f"{config.source!r} lacks {len(lacking)} weights of the model that its config.json describes, such as "
            f"{lacking[0]!r}; name a folder whose files belong together",
            field="model.source",
        )


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """A dequantised GGUF model, rebuilt without what transformers holds of its quantisation.

    With it the model would count as quantised, and refuse to be moved or trained.
    """
    plain: PreTrainedModel = type(model)(model.config)
    for parameter in plain.parameters():  # not the buffers: rotary frequencies stay in float32
        parameter.data = parameter.data.to(model.dtype)
    plain.load_state_dict(model.state_dict())
    plain.tie_weights()
    if plain.can_generate():
        plain.generation_config = model.generation_config
    return plain


def max_length(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that a model takes: what its positions hold, or its tokenizer says; those without a limit say 10^30."""
    settings: Any = model.config
    positions = getattr(settings, "max_position_embeddings", None) or tokenizer.model_max_length
    for name, module in model.named_modules():
        # RoBERTa and its kin count positions from the one after padding.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            positions = min(positions, module.num_embeddings - module.padding_idx - 1)
    return int(min(positions, tokenizer.model_max_length))
