"""What several tests of exports use."""

from __future__ import annotations

import ast
import json

from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from rank_search.adapters import known_warnings
from rank_search.export.certificate import verify

# Names of modules with what regular expressions read as signs.
NAMES = st.text("ab.0*+[(^$\\|", min_size=1, max_size=6)


def failed(folder, names=None) -> set[str]:
    """Names and versions of those that compute something else."""
    return {f"{finding.consumer} {finding.version}" for finding in verify(folder, names) if finding.passed is False}


def rewrite(path, **changes) -> None:
    """Changes fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit(weights) -> None:
    """Changes one tensor of a file by a little."""
    tensors = load_file(weights)
    name = next(name for name in tensors if "lora_B" in name)
    save_file({**tensors, name: tensors[name] + 1e-4}, weights, metadata={"format": "pt"})


def arguments(script: str, called: str) -> dict:
    """Literal keyword arguments of a call in a script."""
    for node in ast.walk(ast.parse(script)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == called:
            return {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
    raise AssertionError(called)


def ranks_of(config: LoraConfig, base) -> dict[str, int]:
    """Rank by module, as PEFT builds it."""
    with known_warnings():
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).base_model.model
    return {name: layer.r["default"] for name, layer in model.named_modules() if hasattr(layer, "lora_A")}
