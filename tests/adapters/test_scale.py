import math

import pytest

from rank_search.adapters import lora_scale, module_scale
from rank_search.config import AdapterConfig


@pytest.mark.parametrize("rank", [1, 2, 8, 256])
def test_scale_by_rank(rank) -> None:
    assert lora_scale(16.0, rank) == 16 / rank
    assert lora_scale(16.0, rank, rank_stabilised=True) == 16 / math.sqrt(rank)
    scales = [module_scale(AdapterConfig(scale=scale, alpha=16.0), rank) for scale in ("alpha/r", "rslora", "constant")]
    assert scales == [16 / rank, 16 / math.sqrt(rank), 16]
