"""Our models of consumers' rules say what the consumers' own classes say; `make consumers` brings them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rank_search.export import architectures, rules
from rank_search.export.formats import write_export
from rank_search.export.manifest import Manifest
from rank_search.export.probe import load_base
from rank_search.export.rules import AdapterFolder, Refused
from rank_search.models.modules import linear_modules
from tests.conftest import ROOT
from tests.export.conftest import *  # noqa: F403  its fixtures
from tests.export.conftest import MODELS

BROUGHT = ROOT / ".consumers"
SCRIPT = Path(__file__).with_name("read.py")
CONSUMERS = {
    "vllm-0.31.0": ("vllm", rules.vllm_to_0_31),
    "vllm-0.33.0": ("vllm", rules.vllm_from_0_32),
    "sglang-0.5.23": ("sglang", rules.sglang),
    "axolotl-0.19.0": ("axolotl", rules.axolotl),
}
pytestmark = pytest.mark.skipif(not BROUGHT.is_dir(), reason="the consumers are not here; make consumers brings them")


def theirs(name: str, folder: Path, out: Path) -> dict[str, torch.Tensor] | str:
    """What a consumer's own classes add to each module, or why they refuse."""
    places = [ROOT, BROUGHT / name, BROUGHT / "dependencies"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), "VLLM_TARGET_DEVICE": "cpu"}
    line = [sys.executable, str(SCRIPT), CONSUMERS[name][0], str(folder), str(out)]
    run = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    refused = [line for line in run.stdout.splitlines() if line.startswith("refused: ")]
    return refused[0] if refused else load_file(out)


def ours(name: str, folder: Path) -> dict[str, torch.Tensor] | str:
    """The same by our model of its rules."""
    base = Manifest.read(folder).base
    loaded = load_base(base.located(trust_remote_code=False), base.auto_class, base.classes)
    try:
        reading = CONSUMERS[name][1](AdapterFolder.read(folder, linear_modules(loaded.model)))
    except Refused as refusal:
        return f"refused: {refusal}"
    changes = {module: scale * (b @ a) for module, (a, b, scale) in reading.updates.items()}
    return {**changes, **{f"whole {name}": of for name, of in reading.replaced.items()}}


@pytest.mark.parametrize("form", ["peft", "compact", "padded"])
@pytest.mark.parametrize("kind", ["generation", "gpt2", "retrieval", "classification"])
@pytest.mark.parametrize("name", CONSUMERS)
def test_rules_are_those_of_the_classes(chosen, tmp_path, name, kind, form) -> None:
    served = {"sglang": {"generation"}, "axolotl": {"generation", "gpt2"}}.get(CONSUMERS[name][0], set(MODELS))
    if kind not in served:
        pytest.skip("it takes no adapters for this kind of model")
    scale = "constant" if form == "compact" else "rslora"
    write_export(chosen(kind, scale=scale), form, tmp_path / "out", force=True)
    found, expected = theirs(name, tmp_path / "out", tmp_path / "theirs.safetensors"), ours(name, tmp_path / "out")
    if isinstance(expected, str):
        assert isinstance(found, str), found.keys()
        return
    assert not isinstance(found, str), found
    assert found.keys() == expected.keys()
    for module, change in expected.items():
        torch.testing.assert_close(found[module], change, rtol=1e-4, atol=1e-6, msg=module)


@pytest.mark.parametrize(
    ("name", "ours"), [("vllm-0.31.0", architectures.VLLM_TO_0_31), ("vllm-0.33.0", architectures.VLLM_FROM_0_32)]
)
def test_models_without_adapters_are_those_of_vllms_registry(name, ours) -> None:
    folder = BROUGHT / name / "vllm" / "model_executor" / "models"
    trees = {path: ast.parse(path.read_text()) for path in folder.rglob("*.py")}
    bases: dict[str, set[str]] = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(base.id for base in node.bases if isinstance(base, ast.Name))

    def takes_adapters(of: str) -> bool:
        return of == "SupportsLoRA" or any(takes_adapters(base) for base in bases.get(of, ()) if base != of)

    lacking = set()
    for node in trees[folder / "registry.py"].body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if target.id in {"_TEXT_GENERATION_MODELS", "_EMBEDDING_MODELS", "_SEQUENCE_CLASSIFICATION_MODELS"}:
                rows = {k.value: ast.literal_eval(v)[1] for k, v in zip(node.value.keys, node.value.values) if k}  # noqa: B905
                lacking |= {architecture for architecture, of in rows.items() if not takes_adapters(of)}
    assert lacking == ours
