"""Loads base models with transformers: with weights, or as skeletons without weights."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from huggingface_hub import hf_hub_download
from torch import nn

from rank_search.core.errors import InputError
from rank_search.core.extras import require_extra
from rank_search.models.checks import check_class, check_vocabulary, load_advice
from rank_search.models.gguf_header import check_gguf_header
from rank_search.models.source import fingerprint, locate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from rank_search.config import ModelSource


@contextmanager
def explain_load_errors(config: ModelSource) -> Iterator[None]:
    """Turns an exception of a model loader into an `InputError` that says how to fix it."""
    if config.source.lower().endswith(".gguf"):
        require_extra("generation", "a GGUF file", field="model.source")
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"{config.source!r} needs a package that is not installed ({_first_line(error)}); pip install it",
            field="model.source",
        ) from error
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a damaged file may raise any exception, from struct.error to IndexError
        problem = f"{config.source!r} can't be loaded ({_first_line(error)}); {load_advice(config, error)}"
        raise InputError(problem, field="model.source") from error


def _first_line(error: Exception) -> str:
    line = next((line for line in str(error).splitlines() if line.strip()), "")
    informative = line and isinstance(error, OSError | ValueError | ImportError)
    return line if informative else f"{type(error).__name__} {line}".strip()


def read_config(config: ModelSource) -> PretrainedConfig:
    """Reads the configuration of a model, its ``config.json``.

    Raises:
        InputError: the source holds no model that transformers knows.
    """
    from transformers import AutoConfig

    located = locate(config)
    with explain_load_errors(config):
        _check_gguf(config)
        settings: PretrainedConfig = AutoConfig.from_pretrained(
            located.path_or_id,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            **located.arguments,
        )
    return settings


def _check_gguf(config: ModelSource) -> None:
    """Checks the header of a GGUF file, which is downloaded first if it is on the hub.

    Raises:
        OSError: it can't be read.
        ValueError: it is damaged.
    """
    located = locate(config)
    if located.gguf_file is None:
        return
    folder = Path(located.path_or_id)
    if not folder.is_dir():
        folder = Path(hf_hub_download(located.path_or_id, located.gguf_file, revision=config.revision)).parent
    check_gguf_header(folder / located.gguf_file)


def embedder_class(config: ModelSource) -> Literal["AutoModel", "AutoModelForTextEncoding"]:
    """The class of transformers that loads what sentence-transformers trains: of T5 and its kin the encoder alone.

    Raises:
        InputError: the source holds no model that transformers knows.
    """
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING

    settings = read_config(config)
    has_encoder_class = settings.is_encoder_decoder and type(settings) in MODEL_FOR_TEXT_ENCODING_MAPPING
    return "AutoModelForTextEncoding" if has_encoder_class else "AutoModel"


def skeleton(config: ModelSource, auto_class: Any, **settings: Any) -> nn.Module:
    """Builds the base model on the meta device: all modules and shapes, without reading or downloading weights.

    Args:
        config: source of the model.
        auto_class: the class of transformers that builds it, such as ``AutoModel``.
        settings: changes to the model's configuration, such as ``num_labels``.

    Raises:
        InputError: the source holds no model that transformers knows, or none of this class.
    """
    model_config = read_config(config)
    check_class(config, model_config, auto_class)
    model_config.update(settings)
    with explain_load_errors(config), torch.device("meta"):
        model: nn.Module = auto_class.from_config(model_config, trust_remote_code=config.trust_remote_code)
    return model


def weight_arguments(config: ModelSource, device: torch.device, uncompressed: Sequence[str] = ()) -> dict[str, Any]:
    """Keyword arguments for ``from_pretrained`` that set the type and the compression of the weights.

    Args:
        config: the model's settings.
        device: the device that the model will be on.
        uncompressed: modules that are trained, and so must not be compressed.

    Raises:
        InputError: 4-bit weights are asked for, but bitsandbytes can't be used.
    """
    arguments: dict[str, Any] = {"dtype": getattr(torch, config.dtype)}
    if config.source.lower().endswith(".gguf"):
        if config.quantization != "none":
            raise InputError(
                "a GGUF file is dequantised when it is loaded, so it can't be 4bit; name the original model",
                field="model.quantization",
            )
        return arguments
    arguments["use_safetensors"] = True
    if config.quantization == "none":
        return arguments
    if device.type != "cuda":
        raise InputError(f"'4bit' needs CUDA, but the device is {device.type}; write none", field="model.quantization")
    require_extra("4bit", "'4bit'", field="model.quantization")
    from transformers import BitsAndBytesConfig

    arguments["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=list(uncompressed) or None,  # despite its name it applies to 4-bit weights too
    )
    return arguments


@dataclass(frozen=True)
class LoadedModel:
    """A frozen base model with its tokenizer.

    Attributes:
        model: in evaluation mode, so that the dropout of the base model adds no noise to training.
        tokenizer: the model's tokenizer.
        max_length: maximum number of tokens of an input.
        fingerprint: a digest of the weights.
        missing: parameters that the source lacks, or holds in another shape; they were drawn at random.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    fingerprint: str
    missing: frozenset[str]


def load(
    config: ModelSource, auto_class: Any, device: torch.device, *, uncompressed: Sequence[str] = (), **settings: Any
) -> LoadedModel:
    """Loads a base model and freezes it.

    Weights that the source lacks, such as a classification head, are drawn from torch's random generator.

    Args:
        config: source of the model.
        auto_class: the class of transformers that loads it.
        device: the device to put it on.
        uncompressed: modules that are never compressed to 4 bits.
        settings: changes to the model's configuration.

    Raises:
        InputError: the model can't be found or loaded, or its files do not belong together.
    """
    from transformers import AutoTokenizer

    located = locate(config)
    if not located.gguf_file:  # which takes long to read, and is always of a causal LM
        check_class(config, read_config(config), auto_class)
    common = {"revision": config.revision, "trust_remote_code": config.trust_remote_code, **located.arguments}
    weights = weight_arguments(config, device, uncompressed)
    with explain_load_errors(config):
        _check_gguf(config)
        tokenizer = AutoTokenizer.from_pretrained(located.path_or_id, **common)
        model, report = auto_class.from_pretrained(
            located.path_or_id, output_loading_info=True, **weights, **common, **settings
        )
    if located.gguf_file:
        model = _without_quantizer(model)
    if config.quantization == "none":  # bitsandbytes puts its weights on the device itself
        model.to(device)
    model.requires_grad_(False).eval()
    check_vocabulary(config, model, tokenizer)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                f"{config.source!r} has a tokenizer with neither a pad nor an end token; add one to its files",
                field="model.source",
            )
        tokenizer.pad_token = tokenizer.eos_token
    # A decoder with a classification head uses the last token that is not the configuration's pad token.
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        max_length=max_length(model, tokenizer),
        fingerprint=fingerprint(located, config),
        missing=frozenset({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}),
    )


def check_weights_present(config: ModelSource, missing: Iterable[str]) -> None:
    """Checks that the source holds all weights of a base model; missing ones would be drawn at random.

    A pooler may be missing: many checkpoints are saved without it, and embedders seldom use it.

    Raises:
        InputError: weights are missing; the message names one of them.
    """
    if required := sorted(name for name in missing if "pooler" not in name.split(".")):
        raise InputError(
            f"{config.source!r} lacks {len(required)} weights of the model that its config.json describes, such as "
            f"{required[0]!r}; name a folder whose files belong together",
            field="model.source",
        )


def _without_quantizer(model: PreTrainedModel) -> PreTrainedModel:
    """Rebuilds a dequantised GGUF model without the quantizer that transformers attaches to it.

    With the quantizer, transformers would refuse to move or train the model.
    """
    plain: PreTrainedModel = type(model)(model.config)
    for parameter in plain.parameters():  # buffers keep their type: rotary frequencies stay in float32
        parameter.data = parameter.data.to(model.dtype)
    plain.load_state_dict(model.state_dict())
    plain.tie_weights()
    if plain.can_generate():
        plain.generation_config = model.generation_config
    return plain


def max_length(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> int:
    """Maximum number of tokens of an input: the smaller limit of the model's positions and its tokenizer.

    Tokenizers without a limit report 10^30.
    """
    settings: Any = model.config
    positions = getattr(settings, "max_position_embeddings", None) or 0
    if positions < 1:  # XLNet, whose positions have no limit, says -1
        positions = tokenizer.model_max_length
    for name, module in model.named_modules():
        # RoBERTa and related models start counting positions after the padding index.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            positions = min(positions, module.num_embeddings - module.padding_idx - 1)
    return int(min(positions, tokenizer.model_max_length))
