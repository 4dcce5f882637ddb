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

from rank_search.export import training_plan
from rank_search.export.consumers import trainers
from rank_search.export.formats import write_export
from rank_search.models.modules import linear_modules
from tests.conftest import ROOT
from tests.consumers.releases import BROUGHT, folder_name
from tests.export.conftest import *  # noqa: F403  its fixtures
from tests.export.helpers import ranks_of

# Those whose script can be run without a GPU, and the releases that it needs.
TRAINERS = {label: trainers()[label].releases for label in ("trl", "ms-swift")}
(AXOLOTL,) = trainers()["axolotl"].releases
pytestmark = [
    pytest.mark.consumers,
    pytest.mark.skipif(not BROUGHT.is_dir(), reason="the trainers are not here; make consumers brings them"),
]


@pytest.mark.parametrize("form", TRAINERS)
@pytest.mark.parametrize("scale", ["rslora", "constant"])
def test_script_trains_the_map(exported_trial, tmp_path, form, scale) -> None:
    exported = exported_trial("generation", scale=scale)
    write_export(exported, form, tmp_path / "out")
    rows = [{"prompt": f"The number after {i} is", "completion": f" {i + 1}."} for i in range(12)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    places = [ROOT, *(BROUGHT / folder_name(release) for release in TRAINERS[form]), BROUGHT / "dependencies"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), "HF_HUB_OFFLINE": "1"}
    line = [sys.executable, str(tmp_path / "out" / "train.py"), "data.jsonl"]
    run = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    (folder,) = {path.parent for path in (tmp_path / "outputs" / "adapter").rglob("adapter_model.safetensors")}
    tensors = load_file(folder / "adapter_model.safetensors")
    stems = {name.partition(".lora_A.")[0]: len(a) for name, a in tensors.items() if ".lora_A." in name}
    assert {stem.removeprefix("base_model.model."): rank for stem, rank in stems.items()} == exported.rank_map.adapted


@pytest.mark.parametrize("scale", ["rslora", "constant"])
@pytest.mark.parametrize("clash", [False, True])
def test_axolotl_makes_the_map_of_its_configuration(bases, exported_trial, tmp_path, monkeypatch, scale, clash) -> None:
    exported = exported_trial("generation", scale=scale)
    if clash:  # as if another module's name ended like one of the map's
        one = next(iter(exported.rank_map.adapted))
        monkeypatch.setattr(
            training_plan,
            "linear_modules",
            lambda model: (shapes := linear_modules(model)) and {**shapes, f"other.{one}": shapes[one]},
        )
    write_export(exported, "axolotl", tmp_path / "out")
    places = [ROOT, BROUGHT / folder_name(AXOLOTL), BROUGHT / "dependencies"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    script = str(ROOT / "tests" / "consumers" / "axolotl_config.py")
    line = [sys.executable, script, str(bases("generation")), str(tmp_path / "out" / "axolotl.yaml"), str(tmp_path)]
    run = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    config = LoraConfig.from_pretrained(str(tmp_path))
    assert isinstance(config.target_modules, str) == clash
    assert ranks_of(config, bases("generation")) == exported.rank_map.adapted
    write_export(exported, "lora-config", tmp_path / "peft")
    expected = LoraConfig.from_pretrained(str(tmp_path / "peft"))
    for name in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_dropout"):
        assert getattr(config, name) == getattr(expected, name), name
