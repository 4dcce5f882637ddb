"""Consumers' own code, for those that are installed: what their classes make of a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from rank_search.export.gguf_file import FILE as GGUF
from rank_search.export.gguf_file import write_dequantised
from rank_search.export.rules import VLLM_RANKS, AdapterSettings, Reading, Refused, vllm_slot

if TYPE_CHECKING:
    from torch import Tensor

    from rank_search.export.probe import LoadedBase, Reference

_PEFT = "base_model.model."


def vllm(folder: Path, base: LoadedBase) -> Reading:
    """VLLM's own configuration and adapter classes, which need no GPU."""
    from vllm.config.lora import LoRAConfig
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    slot = vllm_slot(AdapterSettings.read(folder).top_rank)
    if slot is None:
        raise Refused(f"it takes ranks up to {VLLM_RANKS[-1]}")
    try:
        helper = PEFTHelper.from_local_dir(str(folder), max_position_embeddings=None)
        helper.validate_legal(LoRAConfig(max_lora_rank=slot))
        adapter = LoRAModel.from_local_checkpoint(
            str(folder),
            expected_lora_modules={name.rpartition(".")[2] for name, _ in base.model.named_modules()},
            peft_helper=helper,
            lora_model_id=1,
            device="cpu",
        )
    except ValueError as error:
        raise Refused(str(error)) from None
    updates = {}
    for name, of in adapter.loras.items():
        of.optimize()  # as the server does, which folds its scale into B
        updates[name] = (of.lora_a, of.lora_b, float(of.scaling))
    replaced = {}
    for name, of in adapter.modules_to_save.items():
        replaced[f"{name}.weight"] = of.weight
        if of.bias is not None:
            replaced[f"{name}.bias"] = of.bias
    return Reading(updates, replaced)


def axolotl(folder: Path, base: LoadedBase) -> Reading:
    """Axolotl's own merge, module by module; the change of the weight is what it adds."""
    from axolotl.cli.utils.lora_merge import _build_peft_layer_and_get_delta, _resolve_lora_alpha_for_key

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "adapter_model.safetensors")
    updates: dict[str, tuple[Tensor, Tensor, float]] = {}
    for key, a in tensors.items():
        if not key.endswith(".lora_A.weight"):
            continue
        name = key.removeprefix(_PEFT).removesuffix(".lora_A.weight")
        b = tensors[key.replace(".lora_A.", ".lora_B.")]
        weight = base.model.get_parameter(f"{name}.weight")
        delta = _build_peft_layer_and_get_delta(
            a,
            b,
            config,
            weight,
            lora_alpha_override=_resolve_lora_alpha_for_key(f"{name}.weight", config),
        )
        # The change is in the order of the weight, which GPT-2's Conv1D stores transposed.
        change = delta.detach().T if config.get("fan_in_fan_out") else delta.detach()
        updates[name] = (torch.eye(a.shape[1]), change, 1.0)
    return Reading(updates)


def sglang(folder: Path, base: LoadedBase) -> Reading:
    """SGLang's own adapter class, and its pool's rule that every tensor has the configured rank.

    The pool itself lives on a GPU; its rule is modelled (``lora/mem_pool.py``, ``load_lora_weight_tensor``).
    """
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.lora.lora import LoRAAdapter
    from sglang.srt.lora.lora_config import LoRAConfig
    from sglang.srt.lora.utils import get_stacked_multiply

    config = LoRAConfig(str(folder))
    adapter = LoRAAdapter("bundle", config, base.model.config, LoadConfig(), None)
    try:
        adapter.initialize_weights_from_tensors(load_file(folder / "adapter_model.safetensors"))
    except (KeyError, RuntimeError) as error:  # stacking needs all its parts, of one rank
        raise Refused(f"{type(error).__name__}: {error}") from None
    stacked = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
    updates: dict[str, tuple[Tensor, Tensor, float]] = {}
    for layer in adapter.layers:
        for key, a in layer.weights.items():
            if not key.endswith(".lora_A.weight"):
                continue
            stem, _, last = key.removeprefix(_PEFT).removesuffix(".lora_A.weight").rpartition(".")
            b = layer.weights[key.replace(".lora_A.", ".lora_B.")]
            if len(a) != config.r * get_stacked_multiply(last) or b.shape[1] != config.r:
                raise Refused(f"LoRA buffer for rank {config.r} does not match {key} of shape {tuple(a.shape)}")
            parts = [f"{stem}.{part}" for part in stacked.get(last, (last,))]
            rows = [len(base.model.get_parameter(f"{part}.weight")) for part in parts]
            halves = zip(a.split(config.r), b.split(rows), strict=True)
            updates |= {part: (*of, adapter.scaling) for part, of in zip(parts, halves, strict=True)}
    return Reading(updates)


def llama_cpp(folder: Path, base: LoadedBase, reference: Reference) -> Tensor:
    """llama.cpp itself, on the base model's GGUF file with its weights dequantised, and its cache in float32.

    On quantised weights it quantises activations, too: its logits of SmolLM2 in Q4_1 are off by 4 % of the largest,
    with an adapter or without, and that would hide a wrong scale.
    """
    import llama_cpp as library
    import numpy as np

    if base.gguf is None:
        raise Refused("there is no GGUF file of the base model to run it on")
    with TemporaryDirectory() as place:
        whole = Path(place) / "base.gguf"
        write_dequantised(base.gguf, whole)
        try:
            model = library.Llama(
                str(whole),
                lora_path=str(folder / GGUF),
                n_ctx=64,
                logits_all=True,
                verbose=False,
                type_k=library.GGML_TYPE_F32,
                type_v=library.GGML_TYPE_F32,
            )
        except (RuntimeError, ValueError) as error:  # such as a tensor that the base model has no place for
            raise Refused(" ".join(str(error).split())) from None
        found = []
        for ids, mask in zip(reference.ids, reference.mask, strict=True):
            model.reset()
            model.eval(ids[mask.bool()].tolist())
            found.append(torch.from_numpy(np.array(model.scores[model.n_tokens - 1])))
        model.close()
    return torch.stack(found).float()
