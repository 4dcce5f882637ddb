import ast
import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from rank_search.adapters import known_warnings, lora_config
from rank_search.config import AdapterConfig
from rank_search.core.errors import RankSearchError
from rank_search.core.ranks import RankMap, Shape
from rank_search.export import trainers
from rank_search.export.formats import write_export
from rank_search.export.origin import header
from rank_search.export.trainers import in_swifts_matching
from rank_search.models.modules import linear_modules

SCRIPTS = {"trl": "LoraConfig", "unsloth": "get_peft_model", "ms-swift": "LoRAConfig"}


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


@pytest.mark.parametrize("scale", ["rslora", "constant"])
@pytest.mark.parametrize("form", ["trl", "unsloth"])
def test_script_gives_peft_the_map_and_the_scale(bases, chosen, tmp_path, form, scale) -> None:
    choice = chosen("generation", scale=scale)
    write_export(choice, form, tmp_path / "out")
    script = (tmp_path / "out" / "train.py").read_text()
    given_ = arguments(script, SCRIPTS[form])
    given_.pop("random_state", None)
    config = LoraConfig(**given_)
    assert ranks_of(config, bases("generation")) == choice.rank_map.adapted
    write_export(choice, "lora-config", tmp_path / "peft")
    ours = LoraConfig.from_pretrained(str(tmp_path / "peft"))
    for name in ("r", "lora_alpha", "alpha_pattern", "rank_pattern", "use_rslora", "lora_dropout"):
        assert getattr(config, name) == getattr(ours, name)
    head = script.partition("import")[0]
    for word in ("study small, trial 7", "0.5000 ± 0.1000", f"{choice.trial.trainable_parameters:,}", "peft 0."):
        assert word in head


def test_ms_swifts_keys_match_in_its_own_way(bases, chosen, tmp_path) -> None:
    """Its LoRA takes rank and α by the first key with ``re.match(rf'.*\\.{key}$', name)``."""
    choice = chosen("generation", scale="constant", alpha=2.0)
    write_export(choice, "ms-swift", tmp_path / "out")
    given_ = arguments((tmp_path / "out" / "train.py").read_text(), "LoRAConfig")
    for name, rank in choice.rank_map.adapted.items():
        keys = [key for key in [*given_["rank_pattern"], *given_["alpha_pattern"]] if re.match(rf".*\.{key}$", name)]
        assert given_["rank_pattern"][keys[0]] == rank
        assert given_["alpha_pattern"][keys[0]] == 2 * rank
    others = [name for name, rank in choice.rank_map.ranks.items() if not rank]
    assert not any(re.match(rf".*\.{key}$", name) for name in others for key in given_["rank_pattern"])


def test_axolotl_is_given_a_regular_expression_where_names_would_match_more(chosen, tmp_path, monkeypatch) -> None:
    choice = chosen("generation")
    one, *rest = choice.rank_map.adapted
    real = linear_modules
    monkeypatch.setattr(trainers, "linear_modules", lambda model: {**real(model), f"other.{one}": Shape(1, 1)})
    write_export(choice, "axolotl", tmp_path / "out")
    pattern = yaml.safe_load((tmp_path / "out" / "axolotl.yaml").read_text())["lora_target_modules"]
    assert all(re.fullmatch(pattern, name) for name in (one, *rest))  # as PEFT matches a text
    assert not re.fullmatch(pattern, f"other.{one}")


def test_name_of_a_folder_can_not_end_a_comment(chosen) -> None:
    (part,) = chosen("generation").parts
    model = part.model.model_copy(update={"source": "here\nimport os\u2028there", "revision": "a\rb"})
    text = "\n".join(header(dataclasses.replace(part, model=model)))
    assert len(text.splitlines()) == 3
    assert "here?import os?there at a?b" in text


def test_axolotl_is_given_whole_numbers(chosen, tmp_path) -> None:
    choice = chosen("generation", scale="constant", alpha=2.0)
    write_export(choice, "axolotl", tmp_path / "out")
    text = (tmp_path / "out" / "axolotl.yaml").read_text()
    written = yaml.safe_load(text)
    assert text.startswith("# Ranks found by rank_search: study small, trial 7")
    ranks = choice.rank_map.adapted
    assert written["lora_rank_pattern"] == {f"^{re.escape(name)}": rank for name, rank in ranks.items()}
    assert written["lora_alpha_pattern"] == {f"^{re.escape(name)}": 2 * rank for name, rank in ranks.items()}
    assert written["lora_target_modules"] == list(ranks)
    assert Path(written["base_model"]).is_absolute()
    with pytest.raises(RankSearchError, match=r"axolotl takes whole numbers for α, and this map has 2.5; use --to trl"):
        write_export(chosen("generation", alpha=2.5), "axolotl", tmp_path / "other")


@pytest.mark.parametrize("form", ["axolotl", "trl", "unsloth", "ms-swift"])
def test_trainers_of_causal_lms_refuse_others(chosen, tmp_path, form) -> None:
    with pytest.raises(RankSearchError, match=r"trains causal LMs, .* --to lora-config"):
        write_export(chosen("retrieval"), form, tmp_path / "out")


NAMES = st.text("ab.0*+[(^$\\|", min_size=1, max_size=6)


@given(st.dictionaries(NAMES, st.integers(0, 3), min_size=1, max_size=6), st.sets(NAMES, max_size=4))
def test_nothing_but_the_map_is_adapted_whatever_modules_are_called(ranks, others) -> None:
    """By PEFT's own matching, of a model that has other modules too."""
    from peft.tuners.tuners_utils import check_target_module_exists

    rank_map = RankMap(ranks)
    if not rank_map.adapted:
        return
    others |= {f"x.{name}" for name in ranks} - ranks.keys()
    config = lora_config(rank_map, AdapterConfig(), others=others)
    found = {name for name in {*ranks, *others} if check_target_module_exists(config, name)}
    assert found == rank_map.adapted.keys()


@given(st.dictionaries(NAMES, st.integers(1, 3), min_size=1, max_size=6), st.sets(NAMES, max_size=4))
def test_a_key_for_ms_swift_matches_one_module_or_is_refused(ranks, others) -> None:
    names = (*ranks, *(others - ranks.keys()))
    settings = {"rank_pattern": {f"^{re.escape(name)}": rank for name, rank in ranks.items()}}
    try:
        keys = in_swifts_matching(settings, names)["rank_pattern"]
    except RankSearchError:
        return
    for name in names:
        assert [keys[key] for key in keys if re.match(rf".*\.{key}$", name)] == ([ranks[name]] if name in ranks else [])


def test_lora_config_leaves_alone_what_only_ends_like_a_target(bases, chosen, tmp_path) -> None:
    choice = chosen("retrieval")
    write_export(choice, "lora-config", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["exclude_modules"] is None  # nothing in a BERT ends like another module
