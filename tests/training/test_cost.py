import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rank_search.adapters import Member, packed
from rank_search.config import AdapterConfig
from rank_search.core.ranks import RankMap
from rank_search.models.modules import build_space
from rank_search.tasks.base import BatchShape
from rank_search.training.cost import matmul_peak, step_flops
from tests.bench import study_config
from tests.small_models import small_model


@pytest.mark.parametrize("architecture", ["bert", "llama"])
@pytest.mark.parametrize("lowest", [0, 1])
def test_arithmetic_is_what_torch_counts(architecture, lowest) -> None:
    """Torch's own counter, on a real forward and backward."""
    model = small_model(architecture).requires_grad_(False)
    space = build_space(model, study_config(space={"ladder": [0, 8], "group_by": "layer"}))
    ranks = RankMap({name: 8 if f".{lowest}." in name or ".1." in name else 0 for name in space.shapes})
    tokens = torch.ones(4, 24, dtype=torch.long)
    predicted = 24 if architecture == "llama" else 0
    with (
        packed(model, [Member(ranks, AdapterConfig(), 0)]),
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        model(input_ids=tokens, use_cache=False).logits.sum().backward()
    flops = step_flops(model, ranks, {"": [BatchShape(4, 24, predicted)]})
    # At the lowest layer the backward pass ends at the first adapted module, not at the layer's input.
    assert flops.total == pytest.approx(counter.get_total_flops(), rel=0.12)


def test_untrained_model_has_no_backward() -> None:
    model = small_model("bert")
    flops = step_flops(model, RankMap({}), {"": [BatchShape(2, 8)]})
    assert flops.backward == flops.adapters == 0
    assert flops.total == flops.forward > 0


def test_peak_is_measured() -> None:
    assert matmul_peak(torch.device("cpu"), torch.float32) > 1e9
