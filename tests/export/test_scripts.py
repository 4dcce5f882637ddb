import ast
import dataclasses

import pytest
from peft import LoraConfig

from rank_search.core.errors import RankSearchError
from rank_search.export.formats import write_export
from rank_search.export.scripts import literal
from tests.export.helpers import arguments, ranks_of

SCRIPTS = {"trl": "LoraConfig", "unsloth": "get_peft_model", "ms-swift": "LoRAConfig"}


@pytest.mark.parametrize("scale", ["rslora", "constant"])
@pytest.mark.parametrize("form", ["trl", "unsloth"])
def test_script_gives_peft_the_map_and_the_scale(bases, exported_trial, tmp_path, form, scale) -> None:
    exported = exported_trial("generation", scale=scale)
    write_export(exported, form, tmp_path / "out")
    script = (tmp_path / "out" / "train.py").read_text()
    given_ = arguments(script, SCRIPTS[form])
    given_.pop("random_state", None)
    config = LoraConfig(**given_)
    assert ranks_of(config, bases("generation")) == exported.rank_map.adapted
    write_export(exported, "lora-config", tmp_path / "peft")
    ours = LoraConfig.from_pretrained(str(tmp_path / "peft"))
    for name in ("r", "lora_alpha", "alpha_pattern", "rank_pattern", "use_rslora", "lora_dropout"):
        assert getattr(config, name) == getattr(ours, name)
    head = script.partition("import")[0]
    for word in ("study small, trial 7", "0.5000 ± 0.1000", f"{exported.trial.trainable_parameters:,}", "peft 0."):
        assert word in head


def test_unsloth_refuses_a_rank_for_lm_head(exported_trial, tmp_path) -> None:
    exported = exported_trial("generation")
    trial = dataclasses.replace(exported.trial, ranks={**exported.trial.ranks, "lm_head": 2})
    with pytest.raises(RankSearchError, match=r"Unsloth trains lm_head whole, .* --to trl"):
        write_export(dataclasses.replace(exported, trial=trial), "unsloth", tmp_path / "out")


@pytest.mark.parametrize("value", [3, "x" * 100, {f"key {i}": i for i in range(20)}, [f"item {i}" for i in range(20)]])
def test_literals_are_python_source_within_the_line_length(value) -> None:
    text = literal(value)
    assert ast.literal_eval(text) == value
    assert isinstance(value, str) or all(len(line) <= 80 for line in text.splitlines())
