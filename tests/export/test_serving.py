import json

import pytest

from rank_search.export.manifest import Finding
from rank_search.export.serving import serving_notes

VLLM = "--enable-lora --max-lora-rank 16 --lora-modules NAME=DIR"


def finding(label: str, passed: bool | None = True) -> Finding:
    return Finding(label=label, consumer=label, version="1", real=False, passed=passed)


@pytest.mark.parametrize(
    ("labels", "auto_class", "expected"),
    [
        (["vllm-0.31", "vllm"], "AutoModelForCausalLM", [f"vLLM: {VLLM}"]),
        (["vllm"], "AutoModel", [f"vLLM ≥ 0.32: --runner pooling {VLLM}"]),
        (["vllm-0.31"], "AutoModelForCausalLM", [f"vLLM ≤ 0.31: {VLLM}"]),
        (["sglang"], "AutoModelForCausalLM", ["SGLang: --enable-lora --max-lora-rank 16 --lora-paths NAME=DIR"]),
        (["lorax"], "AutoModelForCausalLM", ["LoRAX and TGI: on up to 2 GPU"]),
        (["lorax", "tgi"], "AutoModelForCausalLM", ["LoRAX and TGI: on up to 2 GPU"]),
        (["llama.cpp"], "AutoModelForCausalLM", ["llama.cpp: llama-server -m BASE.gguf --lora adapter.gguf"]),
        (["peft", "axolotl"], "AutoModelForCausalLM", []),
    ],
)
def test_notes_are_of_the_consumers_that_passed(tmp_path, labels, auto_class, expected) -> None:
    config = {"r": 8, "lora_alpha": 8, "target_modules": ["w"], "rank_pattern": {"w": 16}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"0" * 1234)
    findings = [
        *map(finding, labels),
        finding("transformers", None),
        *([] if "tgi" in labels else [finding("tgi", False)]),
    ]
    size, *notes = serving_notes(tmp_path, findings, auto_class)
    assert size == "1,234 bytes of weights"
    assert len(notes) == len(expected)
    assert all(note.startswith(start) for note, start in zip(notes, expected, strict=True))
