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

from rank_search.export.consumers import readers
from rank_search.export.formats import write_export
from rank_search.export.manifest import Manifest
from rank_search.export.probe import Reference, load_base
from rank_search.export.protocol import ADAPTER_FORMATS, Bundle, Reader
from rank_search.export.updates import NotServed, Refused
from tests.conftest import ROOT
from tests.consumers.releases import BROUGHT, folder_name
from tests.export.conftest import *  # noqa: F403  its fixtures
from tests.export.conftest import MODELS

SCRIPT = Path(__file__).with_name("read.py")
READERS = {reader.label: reader for reader in readers() if reader.release and reader.formats <= ADAPTER_FORMATS}
pytestmark = [
    pytest.mark.consumers,
    pytest.mark.skipif(not BROUGHT.is_dir(), reason="the consumers are not here; make consumers brings them"),
]


def by_own_code(reader: Reader, folder: Path, out: Path) -> dict[str, torch.Tensor] | str:
    """What a consumer's own classes add to each module, or why they refuse."""
    places = [ROOT, BROUGHT / folder_name(reader.release), BROUGHT / "dependencies"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), "VLLM_TARGET_DEVICE": "cpu"}
    line = [sys.executable, str(SCRIPT), reader.label, str(folder), str(out)]
    run = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    refused = [line for line in run.stdout.splitlines() if line.startswith("refused: ")]
    return refused[0] if refused else load_file(out)


def by_rules(reader: Reader, folder: Path) -> dict[str, torch.Tensor] | str:
    """The same by our model of its rules; it skips the test of a base model that is not served."""
    base = Manifest.read(folder).base
    loaded = load_base(base.located(trust_remote_code=False), base.auto_class, base.classes)
    if reason := reader.why_not(base.auto_class, type(loaded.model).__name__):
        pytest.skip(reason)
    try:
        applied = reader.rules(Bundle(folder, loaded, Reference.load(folder)))
    except NotServed as error:
        pytest.skip(str(error))
    except Refused as refusal:
        return f"refused: {refusal}"
    changes = {module: scale * (b @ a) for module, (a, b, scale) in applied.updates.items()}
    return {**changes, **{f"whole {name}": tensor for name, tensor in applied.replaced.items()}}


@pytest.mark.parametrize("form", sorted(ADAPTER_FORMATS))
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("label", READERS)
def test_rules_are_those_of_the_classes(exported_trial, tmp_path, label, kind, form) -> None:
    scale = "constant" if form == "compact" else "rslora"
    write_export(exported_trial(kind, scale=scale), form, tmp_path / "out", force=True)
    expected = by_rules(READERS[label], tmp_path / "out")
    found = by_own_code(READERS[label], tmp_path / "out", tmp_path / "found.safetensors")
    if isinstance(expected, str):
        assert isinstance(found, str), found.keys()
        return
    assert not isinstance(found, str), found
    assert found.keys() == expected.keys()
    for module, change in expected.items():
        torch.testing.assert_close(found[module], change, rtol=1e-4, atol=1e-6, msg=module)


@pytest.mark.parametrize("label", ["vllm-0.31", "vllm"])
def test_unsupported_models_are_those_of_vllms_registry(label) -> None:
    reader = READERS[label]
    folder = BROUGHT / folder_name(reader.release) / "vllm" / "model_executor" / "models"
    trees = {path: ast.parse(path.read_text()) for path in folder.rglob("*.py")}
    bases: dict[str, set[str]] = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(base.id for base in node.bases if isinstance(base, ast.Name))

    def takes_adapters(name: str) -> bool:
        return name == "SupportsLoRA" or any(takes_adapters(base) for base in bases.get(name, ()) if base != name)

    lacking, taking = set(), set()
    for node in trees[folder / "registry.py"].body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if target.id in {"_TEXT_GENERATION_MODELS", "_EMBEDDING_MODELS", "_SEQUENCE_CLASSIFICATION_MODELS"}:
                rows = {k.value: ast.literal_eval(v)[1] for k, v in zip(node.value.keys, node.value.values) if k}  # noqa: B905
                lacking |= {architecture for architecture, name in rows.items() if not takes_adapters(name)}
                taking |= rows.keys() - lacking
    assert lacking == reader.unsupported
    assert taking == reader.supported
