"""Adapters as llama.cpp reads them: a GGUF file with two tensors a module, under llama.cpp's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rank_search.core.errors import InputError, RankSearchError
from rank_search.core.extras import require_extra
from rank_search.models.gguf_header import check_gguf_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

FILE = "adapter.gguf"

# transformers' model type → llama.cpp's architecture, for models whose rows have the same order in both. Q and K of
# llama are the exception: llama.cpp rotates neighbouring pairs of rows, transformers the two halves of a head.
ARCHITECTURES = {"bert": "bert", "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_UNSCALED = 0.0  # llama.cpp scales by α/r, but by 1 where α is 0
_REORDERED = {"llama", "mistral"}


def check_architecture(model_type: str) -> None:
    """Checks that the names and the order of rows of a model are known.

    Raises:
        RankSearchError: they are not.
    """
    if model_type not in ARCHITECTURES:
        raise RankSearchError(
            f"gguf is known for models of type {', '.join(ARCHITECTURES)}, and this is {model_type!r}; use "
            "--to merged and llama.cpp's own convert_hf_to_gguf.py"
        )


def write_gguf(
    path: Path, factors: Mapping[str, tuple[Tensor, Tensor]], model_type: str, settings: Mapping[str, Any]
) -> None:
    """Writes an adapter of scale 1 (``llama_adapter_lora_weight::get_scale`` in llama.cpp's src/llama-adapter.h).

    Args:
        path: the file.
        factors: by module: A ``[r, in]`` and B ``[out, r]``, with the scale folded in.
        model_type: of the base model, as transformers names it.
        settings: the base model's configuration.

    Raises:
        RankSearchError: llama.cpp has no place for a module.
    """
    gguf = _library()
    check_architecture(model_type)
    writer = gguf.GGUFWriter(path, ARCHITECTURES[model_type])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _UNSCALED)
    names = _names(model_type, settings, factors)
    if settings.get("tie_word_embeddings") and (tied := {"lm_head"} & factors.keys()):
        raise RankSearchError(
            f"llama.cpp has no tensor for {tied.pop()!r} where it is tied to the embeddings; leave it out of "
            "space.targets, or use --to merged, which gives it weights of its own, and llama.cpp's "
            "convert_hf_to_gguf.py"
        )
    if lacking := sorted(factors.keys() - names.keys()):
        raise RankSearchError(f"llama.cpp has no tensor for {lacking[0]!r}; leave it out of space.targets")
    for name, (a, b) in factors.items():
        rows = _row_order(name, model_type, settings, len(b))
        writer.add_tensor(f"{names[name]}.lora_a", a.float().contiguous().numpy())
        writer.add_tensor(f"{names[name]}.lora_b", b.float()[rows].contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(
    path: Path, model_type: str, settings: Mapping[str, Any], modules: Iterable[str]
) -> tuple[float, dict[str, tuple[Tensor, Tensor]]]:
    """α, and A and B by the base model's own module names, as `write_gguf` took them.

    Raises:
        InputError: the file is missing or damaged.
    """
    gguf = _library()
    try:
        check_gguf_header(path)
        reader = gguf.GGUFReader(path)
        alpha = float(reader.fields[gguf.Keys.Adapter.LORA_ALPHA].contents())
        tensors = {tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in reader.tensors}
    except Exception as error:  # a damaged file may raise anything
        raise InputError(f"is damaged or missing ({error}); export again", file=str(path)) from None
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor

    # transformers' reader of GGUF puts the rows back: an independent check of the order in which they were written.
    processor: Any = TENSOR_PROCESSORS.get(ARCHITECTURES[model_type], TensorProcessor)
    processor = processor(config=dict(settings))
    factors = {}
    for name, tensor_name in _names(model_type, settings, modules).items():
        if f"{tensor_name}.lora_a" in tensors:
            b = processor.process(weights=tensors[f"{tensor_name}.lora_b"].numpy(), name=tensor_name).weights
            factors[name] = (tensors[f"{tensor_name}.lora_a"], torch.from_numpy(np.ascontiguousarray(b)))
    return alpha, factors


def write_dequantised(source: Path, out: Path) -> None:
    """Writes a model's GGUF file with all its weights in float32, as transformers has them.

    Args:
        source: the GGUF file, quantised or not.
        out: the file to write; as large as the model in float32.
    """
    gguf = _library()
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, str(reader.fields[gguf.Keys.General.ARCHITECTURE].contents()))
    written_by_library = {gguf.Keys.General.ARCHITECTURE, gguf.Keys.General.FILE_TYPE}
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in written_by_library:
            sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _names(model_type: str, settings: Mapping[str, Any], modules: Iterable[str]) -> dict[str, str]:
    """llama.cpp's tensor names by module, for those that it has."""
    gguf = _library()
    architecture = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[ARCHITECTURES[model_type]]
    table = gguf.get_tensor_name_map(architecture, settings["num_hidden_layers"])
    found = {name: table.get_name(f"{name}.weight", try_suffixes=(".weight",)) for name in modules}
    return {name: tensor_name for name, tensor_name in found.items() if tensor_name}


def _row_order(name: str, model_type: str, settings: Mapping[str, Any], rows: int) -> Tensor:
    """Which row of transformers' B stands where in llama.cpp's (``LlamaModel.permute`` in its converter)."""
    order = torch.arange(rows)
    last = name.rpartition(".")[2]
    if model_type not in _REORDERED or last not in {"q_proj", "k_proj"}:
        return order
    heads = settings["num_attention_heads"]
    if last == "k_proj":
        heads = settings.get("num_key_value_heads") or heads
    return order.reshape(heads, 2, rows // heads // 2).swapaxes(1, 2).reshape(rows)


def _library() -> Any:
    require_extra("generation", "the format gguf", field="--to")
    import gguf

    return gguf
