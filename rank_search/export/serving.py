"""How big a bundle is, and what a server must be told to take it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# vLLM takes these values of --max-lora-rank alone (``MaxLoRARanks`` in vllm/config/lora.py of 0.33.0).
_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def size(folder: Path) -> int:
    """Bytes of the weights in a bundle."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in {".safetensors", ".gguf"})


def notes(folder: Path, form: str) -> list[str]:
    """What to know before serving a bundle, a sentence each."""
    told = [f"{size(folder):,} bytes of weights"]
    if form == "gguf":
        told.append("llama.cpp: llama-server -m BASE.gguf --lora adapter.gguf")
    if form in {"compact", "padded", "peft"}:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        top = max([config["r"], *(config.get("rank_pattern") or {}).values()])
        slot = next((rank for rank in _VLLM_RANKS if rank >= top), top)
        told.append(f"vLLM: --enable-lora --max-lora-rank {slot} --lora-modules NAME=DIR")
        if form == "padded":
            told.append(f"SGLang: --enable-lora --max-lora-rank {top} --lora-paths NAME=DIR")
    return told
