import re
from pathlib import Path

import pytest
import yaml

from rank_search.core.errors import RankSearchError
from rank_search.core.ranks import Shape
from rank_search.export import training_files
from rank_search.export.consumers import axolotl
from rank_search.export.formats import write_export
from rank_search.models.modules import linear_modules
from tests.export.consumers.rule_inputs import adapter_files, scales


def test_axolotl_is_given_a_regular_expression_where_names_would_match_more(
    exported_trial, tmp_path, monkeypatch
) -> None:
    exported = exported_trial("generation")
    one, *rest = exported.rank_map.adapted
    real = linear_modules
    monkeypatch.setattr(training_files, "linear_modules", lambda model: {**real(model), f"other.{one}": Shape(1, 1)})
    write_export(exported, "axolotl", tmp_path / "out")
    pattern = yaml.safe_load((tmp_path / "out" / "axolotl.yaml").read_text())["lora_target_modules"]
    assert all(re.fullmatch(pattern, name) for name in (one, *rest))  # as PEFT matches a text
    assert not re.fullmatch(pattern, f"other.{one}")


def test_axolotl_is_given_whole_numbers(exported_trial, tmp_path) -> None:
    exported = exported_trial("generation", scale="constant", alpha=2.0)
    write_export(exported, "axolotl", tmp_path / "out")
    text = (tmp_path / "out" / "axolotl.yaml").read_text()
    written = yaml.safe_load(text)
    assert text.startswith("# Ranks found by rank_search: study small, trial 7")
    ranks = exported.rank_map.adapted
    assert written["lora_rank_pattern"] == {f"^{re.escape(name)}": rank for name, rank in ranks.items()}
    assert written["lora_alpha_pattern"] == {f"^{re.escape(name)}": 2 * rank for name, rank in ranks.items()}
    assert written["lora_target_modules"] == list(ranks)
    assert Path(written["base_model"]).is_absolute()
    with pytest.raises(RankSearchError, match=r"axolotl takes whole numbers for α, and this map has 2.5; use --to trl"):
        write_export(exported_trial("generation", alpha=2.5), "axolotl", tmp_path / "other")


def test_merge_scales_by_each_tensors_rank_and_the_alpha_of_the_pattern() -> None:
    adapter = adapter_files({"layers.0.w": 2, "layers.1.w": 8}, r=4, alpha_pattern={r"layers\.0\.w": 6.0})
    assert scales(axolotl.merge_rule(adapter)) == {"layers.0.w": 6 / 2, "layers.1.w": 16 / 8}


def test_gguf_files_are_refused(exported_trial, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training_files, "model_location", lambda _part: {"place": "x", "gguf_file": "x.gguf"})
    with pytest.raises(RankSearchError, match=r"axolotl can't train from a GGUF file, .* use --to trl"):
        write_export(exported_trial("generation"), "axolotl", tmp_path / "out")
