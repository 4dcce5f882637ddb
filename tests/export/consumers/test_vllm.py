import pytest

from rank_search.export.consumers import vllm
from rank_search.export.updates import NotServed, Refused
from tests.export.consumers.rule_inputs import adapter_files, scales

RANKS = {"layers.0.q_proj": 2, "layers.1.q_proj": 8}
PATTERNS = {"rank_pattern": {r"^layers\.0\.q_proj": 2}, "alpha_pattern": {r"layers\.0\.q_proj": 4.0}}


def test_versions_up_to_0_31_have_one_scale_whatever_the_patterns() -> None:
    assert scales(vllm.rule_to_0_31(adapter_files(RANKS, **PATTERNS))) == dict.fromkeys(RANKS, 16 / 8)
    rank_stabilised = vllm.rule_to_0_31(adapter_files(RANKS, use_rslora=True, **PATTERNS))
    assert scales(rank_stabilised) == pytest.approx(dict.fromkeys(RANKS, 16 / 8**0.5))


def test_versions_from_0_32_have_the_scales_of_the_patterns() -> None:
    found = scales(vllm.rule_from_0_32(adapter_files(RANKS, **PATTERNS)))
    assert found == {"layers.0.q_proj": 4 / 2, "layers.1.q_proj": 16 / 8}


@pytest.mark.parametrize("rule", [vllm.rule_to_0_31, vllm.rule_from_0_32])
@pytest.mark.parametrize(
    ("settings", "whole", "error", "reason"),
    [
        ({"use_dora": True}, (), Refused, "DoRA"),
        ({"bias": "all"}, (), Refused, "biases"),
        ({"r": 513}, (), NotServed, "ranks up to 512"),
        ({"rank_pattern": {"layers": 600}}, (), NotServed, "ranks up to 512"),
        ({"modules_to_save": ["head"]}, ("head.weight",), NotServed, "modules_to_save"),
        ({"modules_to_save": ["classifier"]}, ("classifier.dense.weight",), NotServed, "modules_to_save"),
    ],
)
def test_refusals(rule, settings, whole, error, reason) -> None:
    with pytest.raises(error, match=reason):
        rule(adapter_files(RANKS, whole=whole, **settings))


def test_linear_classifier_replaces_that_of_the_base_model() -> None:
    applied = vllm.rule_from_0_32(
        adapter_files(RANKS, whole=("classifier.weight",), modules_to_save=["classifier"], **PATTERNS)
    )
    assert applied.replaced.keys() == {"classifier.weight"}


def test_max_lora_rank_is_the_smallest_allowed_value() -> None:
    assert [vllm.max_lora_rank(rank) for rank in (1, 2, 8, 9, 33, 512)] == [1, 8, 8, 16, 64, 512]
    with pytest.raises(NotServed, match="ranks up to 512"):
        vllm.max_lora_rank(513)


def test_unsupported_models_change_with_the_version() -> None:
    assert "BertModel" in vllm.UNSUPPORTED_TO_0_31 - vllm.UNSUPPORTED_FROM_0_32
    assert "GPT2LMHeadModel" in vllm.UNSUPPORTED_TO_0_31 & vllm.UNSUPPORTED_FROM_0_32


def test_no_class_is_both_supported_and_unsupported() -> None:
    assert not vllm.SUPPORTED_TO_0_31 & vllm.UNSUPPORTED_TO_0_31
    assert not vllm.SUPPORTED_FROM_0_32 & vllm.UNSUPPORTED_FROM_0_32
    assert {"LlamaForCausalLM", "Qwen3ForCausalLM"} <= vllm.SUPPORTED_TO_0_31 & vllm.SUPPORTED_FROM_0_32
    assert "BertModel" in vllm.SUPPORTED_FROM_0_32 - vllm.SUPPORTED_TO_0_31
