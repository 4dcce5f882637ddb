"""PEFT's refusals come before anything is trained."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import MambaConfig, MambaForCausalLM

from rank_search.adapters import check_exportable, support, unsupported_modules
from rank_search.core.errors import InputError, RankSearchError
from rank_search.models.modules import build_space
from tests.bench import study_config
from tests.small_models import SMALL_MODELS, small_model


def mamba() -> nn.Module:
    with torch.device("meta"):
        return MambaForCausalLM(MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=64, state_size=4))


@pytest.mark.parametrize("architecture", SMALL_MODELS)
def test_all_linear_layers_of_common_models_are_adapted(architecture) -> None:
    model = small_model(architecture)
    before = {name: type(module) for name, module in model.named_modules()}
    assert unsupported_modules(model) == {}
    assert {name: type(module) for name, module in model.named_modules()} == before


def test_what_peft_refuses_is_named_with_its_reason() -> None:
    found = unsupported_modules(nn.ModuleDict({"generator": mamba()}))
    assert list(found) == [f"generator.backbone.layers.{i}.mixer.out_proj" for i in range(2)]
    (reason,) = set(found.values())
    assert reason.startswith("is refused by PEFT ([PEFT:PeftType.LORA] Module 'out_proj' is incompatible with Mamba")
    assert reason.endswith("(model_type='mamba'))")  # the advice after it names a set, in no order


def test_refused_modules_are_left_out_of_a_group_and_refused_by_name() -> None:
    model, unsupported = mamba(), unsupported_modules(mamba())
    space = build_space(model, study_config(space={"ladder": [0, 1]}), unsearchable=unsupported)
    assert not any("out_proj" in name for name in space.shapes)
    assert space.left_out == unsupported
    check_exportable(model, space)
    named = study_config(space={"ladder": [0, 1], "targets": ["in_proj", "out_proj"]})
    with pytest.raises(InputError, match=r"space.targets: 'out_proj' means only .* is refused by PEFT .*; name others"):
        build_space(model, named, unsearchable=unsupported)


def test_a_space_that_peft_refuses_is_not_trained() -> None:
    space = build_space(mamba(), study_config(space={"ladder": [0, 1]}))
    with pytest.raises(RankSearchError, match=r"PEFT can't build .* so none is trained: .* 'out_proj' is incompatible"):
        check_exportable(mamba(), space)


def test_a_space_in_which_peft_builds_other_ranks_is_not_trained(monkeypatch) -> None:
    """As some versions of PEFT did, it takes no notice of the ranks by module."""
    model = small_model("bert")
    space = build_space(model, study_config(space={"ladder": [0, 4]}))
    build = support.lora_config
    monkeypatch.setattr(
        support, "lora_config", lambda *given, **named: replace(build(*given, **named), r=2, rank_pattern={})
    )
    with pytest.raises(RankSearchError, match=r"'bert\.encoder\.layer\.0\..* gets rank 2, not 4"):
        check_exportable(model, space)


def test_a_head_is_tried_with_the_adapters() -> None:
    model = small_model("bert")
    space = build_space(model, study_config(space={"ladder": [0, 4]}), ("classifier",))
    check_exportable(model, space, ("classifier",))
