import pytest

from rank_search.export.consumers import sglang
from rank_search.export.updates import NotServed, Refused
from tests.export.consumers.rule_inputs import adapter_files, scales

RANKS = {f"model.layers.0.self_attn.{name}": 8 for name in ("q_proj", "k_proj", "v_proj")}


def test_scale_is_alpha_over_r_even_if_rank_stabilised() -> None:
    assert scales(sglang.rule(adapter_files(RANKS, use_rslora=True))) == dict.fromkeys(RANKS, 2.0)


@pytest.mark.parametrize(
    ("ranks", "whole", "refusal", "reason"),
    [
        (RANKS, ("score.weight",), NotServed, "modules_to_save"),
        ({**RANKS, "model.layers.0.mlp.up_proj": 4}, (), Refused, "only tensors of rank r = 8"),
        ({"model.layers.0.self_attn.q_proj": 8}, (), Refused, "stacks Q, K and V"),
        ({"model.layers.0.self_attn.k_proj": 8}, (), Refused, "stacks Q, K and V"),
        ({"transformer.h.0.attn.c_attn": 8}, (), NotServed, "modules called c_attn"),
    ],
)
def test_refusals(ranks, whole, refusal, reason) -> None:
    with pytest.raises(refusal, match=reason):
        sglang.rule(adapter_files(ranks, whole=whole))
