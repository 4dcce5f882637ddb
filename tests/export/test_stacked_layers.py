import pytest

from rank_search.export import stacked_layers
from rank_search.export.consumers import tgi
from rank_search.export.updates import NotServed, Refused
from tests.export.consumers.rule_inputs import adapter_files, scales


def layers(**ranks) -> dict[str, int]:
    """Two layers with modules of these ranks."""
    return {f"model.layers.{i}.{kind}": rank for i in range(2) for kind, rank in ranks.items()}


def test_later_kinds_are_scaled_by_the_padded_rank_of_the_kind_before() -> None:
    """r = 4 for the first kind; its rank of 3 is padded to 8, and the second kind's 20 to 32."""
    found = scales(stacked_layers.rule(adapter_files(layers(q_proj=3, k_proj=20, v_proj=1), r=4)))
    assert found == {**layers(q_proj=16 / 4, k_proj=16 / 8, v_proj=16 / 32)}


def test_kind_that_one_layer_lacks_is_left_out() -> None:
    ranks = layers(q_proj=8, k_proj=8)
    del ranks["model.layers.1.k_proj"]
    found = stacked_layers.rule(adapter_files(ranks, modules=layers(q_proj=8, k_proj=8)))
    assert found.updates.keys() == layers(q_proj=8).keys()


@pytest.mark.parametrize(
    ("ranks", "whole", "refusal", "reason"),
    [
        (layers(q_proj=8), ("score.weight",), NotServed, "modules_to_save"),
        ({"model.layers.0.q_proj": 2, "model.layers.1.q_proj": 4}, (), Refused, r"q_proj, which have ranks \[2, 4\]"),
        ({"lm_head": 8}, (), NotServed, "outside layers, such as lm_head"),
    ],
)
@pytest.mark.parametrize("rule", [stacked_layers.rule, tgi.rule])
def test_refusals(rule, ranks, whole, refusal, reason) -> None:
    with pytest.raises(refusal, match=reason):
        rule(adapter_files(ranks, whole=whole))


def test_tgi_knows_only_layers_with_llamas_names() -> None:
    ranks = {"transformer.h.0.c_attn": 8}
    assert stacked_layers.rule(adapter_files(ranks)).updates.keys() == ranks.keys()
    with pytest.raises(NotServed, match=r"only under model.layers, and this has transformer.h.0.c_attn"):
        tgi.rule(adapter_files(ranks))
