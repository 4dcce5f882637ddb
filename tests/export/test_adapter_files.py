import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from rank_search.adapters import lora_config
from rank_search.config import AdapterConfig
from rank_search.core.errors import InputError
from rank_search.core.ranks import RankMap
from rank_search.export.adapter_files import AdapterFiles, AdapterSettings
from tests.export.consumers.rule_inputs import adapter_files, scales
from tests.export.helpers import NAMES

SETTINGS = {"r": 4, "lora_alpha": 8, "target_modules": ["w"]}


def test_patterns_match_as_in_peft_first_key_first() -> None:
    adapter = adapter_files(
        {"layers.1.w": 2, "layers.11.w": 4},
        rank_pattern={r"1\.w": 2, "w": 3},
        alpha_pattern={r"^layers\.1\.w": 5.0},
    )
    assert [adapter.rank_by_pattern(name) for name in ("layers.1.w", "layers.11.w", "layers.1.v")] == [2, 3, 4]
    assert [adapter.alpha_by_pattern(name) for name in ("layers.1.w", "layers.11.w", "x.layers.1.w")] == [5, 16, 16]
    assert adapter.settings.top_rank == 4


def test_scale_is_that_of_the_settings_unless_a_rule_says_otherwise() -> None:
    adapter = adapter_files({"w": 4}, use_rslora=True)
    assert adapter.scale(4) == 16 / 2
    assert adapter.scale(4, 2.0) == 1.0
    assert adapter.scale(4, rank_stabilised=False) == 4.0
    assert scales(adapter.scaled(lambda name, a: len(a) + len(name))) == {"w": 5}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is missing"),
        ("[]", "is damaged"),
        (json.dumps({**SETTINGS, "r": 0}), "r: is damaged"),
        (json.dumps({**SETTINGS, "rank_pattern": {"(": 1}}), "is not the name of a module"),
    ],
)
def test_damaged_settings_are_refused_with_the_file(tmp_path, content, reason) -> None:
    if content is not None:
        (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(InputError, match=rf"adapter_config.json: .*{reason}.*export again"):
        AdapterSettings.read(tmp_path)


CRAFTED = {
    "a pattern that backtracks for ever": {"rank_pattern": {"(a+)+$": 1}},
    "one among the scales": {"alpha_pattern": {"^(layers|layers)*x": 1.0}},
    "targets by pattern": {"target_modules": "(a+)+$"},
    "exclusions by pattern": {"exclude_modules": "w|(a+)+$"},
    "an infinite scale": {"lora_alpha": float("inf")},
    "a rank that no tensor has": {"r": 10**9},
    "such a rank in a pattern": {"rank_pattern": {"^w": 10**9}},
    "a pattern of no module": {"alpha_pattern": {"^other": 2.0}},
    "a package to import": {"megatron_core": "antigravity"},
    "another start of A and B": {"init_lora_weights": "pissa"},
    "another kind of adapter": {"peft_type": "ADALORA"},
}


@pytest.mark.parametrize("crafted", CRAFTED)
def test_settings_that_no_export_writes_are_refused(tmp_path, crafted) -> None:
    tensors = {f"base_model.model.w.lora_{letter}.weight": torch.ones(4, 4) for letter in "AB"}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(SETTINGS))
    AdapterFiles.read(tmp_path, ["w"])
    (tmp_path / "adapter_config.json").write_text(json.dumps({**SETTINGS, **CRAFTED[crafted]}))
    with pytest.raises(InputError, match=r"adapter_config.json: .*; export again"):
        AdapterFiles.read(tmp_path, ["w"])


@given(st.dictionaries(NAMES, st.integers(1, 4), min_size=1, max_size=3))
def test_names_of_any_characters_are_read_as_they_were_written(ranks) -> None:
    config = lora_config(RankMap(ranks), AdapterConfig(scale="constant"), others=[f"x.{name}" for name in ranks])
    content = json.dumps(config.to_dict(), default=list)
    settings = AdapterSettings.model_validate_json(content)
    assert len(settings.rank_pattern) == len(ranks)


def test_missing_weights_are_refused_with_the_file(tmp_path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(SETTINGS))
    with pytest.raises(InputError, match=r"adapter_model.safetensors: is damaged or missing"):
        AdapterFiles.read(tmp_path, ["w"])
