import json

import pytest

from rank_search.core.errors import InputError
from rank_search.export.adapter_files import AdapterFiles, AdapterSettings
from tests.export.consumers.rule_inputs import adapter_files, scales

SETTINGS = {"r": 4, "lora_alpha": 8, "target_modules": ["w"]}


def test_patterns_match_as_in_peft_first_key_first() -> None:
    adapter = adapter_files(
        {"layers.1.w": 2, "layers.11.w": 4},
        rank_pattern={r"1\.w": 2, r".*w": 3},
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
        (json.dumps({**SETTINGS, "rank_pattern": {"(": 1}}), "is no regular expression"),
    ],
)
def test_damaged_settings_are_refused_with_the_file(tmp_path, content, reason) -> None:
    if content is not None:
        (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(InputError, match=rf"adapter_config.json: .*{reason}.*export again"):
        AdapterSettings.read(tmp_path)


def test_missing_weights_are_refused_with_the_file(tmp_path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(SETTINGS))
    with pytest.raises(InputError, match=r"adapter_model.safetensors: is damaged or missing"):
        AdapterFiles.read(tmp_path, ["w"])
