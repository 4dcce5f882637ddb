import dataclasses
import json

import pytest
from peft import LoraConfig

from rank_search.analysis.trials import ScoredTrial
from rank_search.core.errors import InputError, RankSearchError
from rank_search.core.ranks import Shape
from rank_search.core.space import Space
from rank_search.export.exported_trial import ExportedTrial
from rank_search.export.formats import write_export
from tests.bench import SPACE, metadata, study_config


def test_lora_config_is_one_that_peft_reads(searched_trial, tmp_path) -> None:
    write_export(searched_trial(3), "lora-config", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"adapter_config.json", "README.md"}
    assert "study small, trial" in (tmp_path / "out" / "README.md").read_text()
    config = LoraConfig.from_pretrained(str(tmp_path / "out"))
    assert config.rank_pattern == {f"^layer\\.{i}\\.w": 4 for i in range(4)}
    assert config.use_rslora
    assert config.lora_alpha == 4


def test_map_of_two_base_models_becomes_two_configs(bases, bench, tmp_path) -> None:
    shapes = {
        "retriever.layer.0.w": Shape(8, 8),
        "generator.layer.0.w": Shape(8, 8),
        "generator.layer.1.c": Shape(8, 8),
    }
    space = Space(shapes, {name: (name,) for name in shapes}, (0, 2), transposed=("generator.layer.1.c",))
    models = [str(bases("retrieval")), str(bases("gpt2"))]
    task = {"kind": "rag", "data": "x", "retriever": {"source": models[0]}}
    config = study_config(task=task, model={"source": models[1]})
    kept = dataclasses.replace(metadata(space), config=config.frozen())
    ranks = {"retriever.layer.0.w": 2, "generator.layer.0.w": 0, "generator.layer.1.c": 2}
    trial = ScoredTrial(5, "search", 0.5, 0.1, 64, ranks, {"alpha": 8.0}, 1.0)
    lines = write_export(ExportedTrial("small", kept, bench.folder, trial), "trl", tmp_path / "trl")
    assert [path.name for path in (tmp_path / "trl").iterdir()] == ["generator"]
    assert lines[0].startswith("the generator alone")
    write_export(ExportedTrial("small", kept, bench.folder, trial), "lora-config", tmp_path / "out")
    retriever, generator = (LoraConfig.from_pretrained(str(tmp_path / "out" / n)) for n in ("retriever", "generator"))
    assert retriever.rank_pattern == {"^layer\\.0\\.w": 2}
    assert generator.rank_pattern == {"^layer\\.1\\.c": 2}
    assert [retriever.base_model_name_or_path, generator.base_model_name_or_path] == models
    header = (tmp_path / "trl" / "generator" / "train.py").read_text()
    assert "# 32 trainable parameters, of 64 in all its base models, trained at alpha 8.\n" in header
    assert (retriever.fan_in_fan_out, generator.fan_in_fan_out) == (False, True)
    assert retriever.lora_alpha == 8  # what was searched, not the study file's 4


@pytest.mark.parametrize("form", ["axolotl", "trl", "unsloth", "ms-swift"])
def test_trainers_of_causal_lms_refuse_others(exported_trial, tmp_path, form) -> None:
    with pytest.raises(RankSearchError, match=r"trains causal LMs, .* --to lora-config"):
        write_export(exported_trial("retrieval"), form, tmp_path / "out")


def test_lora_config_leaves_alone_what_only_ends_like_a_target(bases, exported_trial, tmp_path) -> None:
    exported = exported_trial("retrieval")
    write_export(exported, "lora-config", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["exclude_modules"] is None  # nothing in a BERT ends like another module


def test_map_of_zeros_with_a_head_is_an_adapter_of_the_head_alone(bench, tmp_path) -> None:
    kept = dataclasses.replace(metadata(), head=("classifier",), classes=("no", "yes"))
    trial = ScoredTrial(0, "baseline:uniform", 0.5, 0.1, 0, dict.fromkeys(SPACE.shapes, 0), {}, 1.0)
    write_export(ExportedTrial("small", kept, bench.folder, trial), "lora-config", tmp_path / "out")
    assert LoraConfig.from_pretrained(str(tmp_path / "out")).modules_to_save == ["classifier"]
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == {"id2label": {"0": "no", "1": "yes"}}


def test_code_of_a_received_record_is_not_run(exported_trial, tmp_path) -> None:
    exported = exported_trial("generation")
    theirs = {**exported.metadata.config["model"], "trust_remote_code": True}
    kept = dataclasses.replace(exported.metadata, config={**exported.metadata.config, "model": theirs})
    received = dataclasses.replace(exported, metadata=kept)
    for form in ("peft", "trl", "lora-config"):
        with pytest.raises(InputError, match=r"^model\.trust_remote_code: .* add --trust-remote-code$"):
            write_export(received, form, tmp_path / form)
        assert not (tmp_path / form).exists()
    write_export(received, "rank-map", tmp_path / "rank-map")
    write_export(dataclasses.replace(received, trust_code=True), "trl", tmp_path / "trl")
