"""How big a bundle is, and what a server must be told to take it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.export.rules import AdapterSettings, vllm_slot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rank_search.export.manifest import AutoClass, Finding

_LEAST_SHARD = 8  # rank that LoRAX and TGI pad to on each GPU of several, and then scale by


def size(folder: Path) -> int:
    """Bytes of the weights in a bundle."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in {".safetensors", ".gguf"})


def notes(folder: Path, findings: Sequence[Finding], auto_class: AutoClass) -> list[str]:
    """What to know before serving a bundle, a sentence each; of servers that passed alone.

    Args:
        folder: the bundle.
        findings: its certificate.
        auto_class: of its base model.
    """
    told = [f"{size(folder):,} bytes of weights"]
    passed = {of.label: of for of in findings if of.passed}
    if "llama.cpp" in passed:
        told.append("llama.cpp: llama-server -m BASE.gguf --lora adapter.gguf")
    if not (folder / "adapter_config.json").exists():
        return told
    rank = AdapterSettings.read(folder).top_rank
    if served := [passed[label].consumer for label in ("vllm-0.31", "vllm") if label in passed]:
        which = "vLLM" if len(served) == 2 else served[0]
        runner = "" if auto_class == "AutoModelForCausalLM" else "--runner pooling "
        told.append(f"{which}: {runner}--enable-lora --max-lora-rank {vllm_slot(rank)} --lora-modules NAME=DIR")
    if "sglang" in passed:
        told.append(f"SGLang: --enable-lora --max-lora-rank {rank} --lora-paths NAME=DIR")
    if {"lorax", "tgi"} & passed.keys():
        told.append(f"LoRAX and TGI: on up to {rank // _LEAST_SHARD} GPU (--num-shard); on more they scale it wrongly")
    return told
