"""The scripts that export writes run, and train the map, and axolotl makes it of its configuration.

`make consumers` brings what they import.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from peft import LoraConfig
from safetensors.torch import load_file

from rank_search.export import trainers
from rank_search.export.formats import write_export
from rank_search.models.modules import linear_modules
from tests.conftest import ROOT
from tests.export.conftest import *  # noqa: F403  its fixtures
from tests.export.test_trainers import ranks_of

BROUGHT = ROOT / ".consumers"
TRAINERS = {"trl": ("trl-1.16.0",), "ms-swift": ("ms_swift-4.6.0", "peft-0.18.1")}
pytestmark = pytest.mark.skipif(not BROUGHT.is_dir(), reason="the trainers are not here; make consumers brings them")


@pytest.mark.parametrize("form", TRAINERS)
@pytest.mark.parametrize("scale", ["rslora", "constant"])
def test_script_trains_the_map(chosen, tmp_path, form, scale) -> None:
    choice = chosen("generation", scale=scale)
    write_export(choice, form, tmp_path / "out")
    rows = [{"prompt": f"The number after {i} is", "completion": f" {i + 1}."} for i in range(12)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    places = [ROOT, *(BROUGHT / name for name in TRAINERS[form]), BROUGHT / "dependencies"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), "HF_HUB_OFFLINE": "1"}
    line = [sys.executable, str(tmp_path / "out" / "train.py"), "data.jsonl"]
    run = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    (folder,) = {path.parent for path in (tmp_path / "outputs" / "adapter").rglob("adapter_model.safetensors")}
    tensors = load_file(folder / "adapter_model.safetensors")
    stems = {name.partition(".lora_A.")[0]: len(of) for name, of in tensors.items() if ".lora_A." in name}
    assert {stem.removeprefix("base_model.model."): rank for stem, rank in stems.items()} == choice.rank_map.adapted


@pytest.mark.parametrize("scale", ["rslora", "constant"])
@pytest.mark.parametrize("clash", [False, True])
def test_axolotl_makes_the_map_of_its_configuration(bases, chosen, tmp_path, monkeypatch, scale, clash) -> None:
    choice = chosen("generation", scale=scale)
    if clash:  # as if another module's name ended like one of the map's
        one = next(iter(choice.rank_map.adapted))
        monkeypatch.setattr(
            trainers,
            "linear_modules",
            lambda model: (of := linear_modules(model)) and {**of, f"other.{one}": of[one]},
        )
    write_export(choice, "axolotl", tmp_path / "out")
    places = [ROOT, BROUGHT / "axolotl-0.19.0", BROUGHT / "dependencies"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    script = str(ROOT / "tests" / "consumers" / "axolotls_config.py")
    line = [sys.executable, script, str(bases("generation")), str(tmp_path / "out" / "axolotl.yaml"), str(tmp_path)]
    run = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    config = LoraConfig.from_pretrained(str(tmp_path))
    assert isinstance(config.target_modules, str) == clash
    assert ranks_of(config, bases("generation")) == choice.rank_map.adapted
    write_export(choice, "lora-config", tmp_path / "peft")
    expected = LoraConfig.from_pretrained(str(tmp_path / "peft"))
    for name in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_dropout"):
        assert getattr(config, name) == getattr(expected, name), name
