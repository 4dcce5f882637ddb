"""EVA's directions, and its redistribution of ranks."""

import pytest
import torch
from torch import nn

from rank_search.adapters import eva_directions, eva_init, module_scale
from rank_search.config import AdapterConfig
from rank_search.core.errors import InputError
from rank_search.core.ranks import RankMap
from tests.packs import MODELS, SPACES, starting_a


def batches(rows: int = 16, length: int = 20) -> list[dict[str, torch.Tensor]]:
    tokens = torch.randint(0, 64, (rows, length), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}]


def test_eva_starts_along_the_leading_directions_of_the_inputs() -> None:
    model, space = MODELS["bert"], SPACES["bert"]
    directions = eva_directions(model, space.uniform(4), AdapterConfig(), {"": batches()})
    assert {tuple(v.shape) for v in directions.values()} == {(4, 32), (4, 48)}
    start = starting_a({"method": "eva"}, rank=2, directions=directions)
    assert all(torch.allclose(start[name], directions[name][:2].float()) for name in start)
    # The first module sees the embeddings: its directions are their principal ones.
    with torch.no_grad():
        seen = model.bert.embeddings(batches()[0]["input_ids"]).reshape(-1, 32)
    _, _, exact = torch.linalg.svd(seen - seen.mean(0), full_matrices=False)
    first = directions["bert.encoder.layer.0.attention.self.query"].float()
    assert (exact[:2] @ first[:2].T).abs().diag().min().item() > 0.99


def test_eva_with_fewer_tokens_than_ranks_is_refused() -> None:
    """PEFT would loop forever."""
    with pytest.raises(InputError, match=r"adapter\.init\.method: .* one has 6 for rank 7"):
        eva_directions(MODELS["bert"], SPACES["bert"].uniform(7), AdapterConfig(), {"": batches(2, 3)})


def test_eva_redistributes_a_maps_ranks_and_starts_with_a_zero_change() -> None:
    """At most twice the map's rank for a module, the same sum, and A with orthonormal rows."""
    model, space, config = MODELS["bert"], SPACES["bert"], AdapterConfig(scale="alpha/r", alpha=6.0)
    found, init = eva_init(model, space.uniform(3), config, {"": batches()})
    ranks = found.ranks
    assert ranks.keys() == space.shapes.keys()
    assert sum(ranks.values()) == 3 * len(ranks)
    assert len(set(ranks.values())) > 1
    assert max(ranks.values()) <= 6
    assert init.scale == module_scale(config, 3) == 2.0  # as in PEFT, at whatever rank
    for name, (a, b) in init.factors.items():
        shape = space.shapes[name]
        assert a.shape == (shape.in_features, ranks[name])
        assert torch.equal(b, torch.zeros(ranks[name], shape.out_features))
        assert torch.allclose(a.T @ a, torch.eye(ranks[name], dtype=a.dtype), atol=1e-4)


def test_each_base_model_keeps_its_own_ranks() -> None:
    """Ranks move only within a base model; directions are found for both."""
    both = nn.ModuleDict({"query": MODELS["bert"], "document": MODELS["bert"]})
    names = [f"{prefix}.{name}" for prefix in both for name in SPACES["bert"].shapes]
    uniform = RankMap(dict.fromkeys(names, 2))
    given = {"query.": batches(), "document.": batches(8, 30)}
    found, init = eva_init(both, uniform, AdapterConfig(), given)
    for prefix in both:
        ranks = found.under(f"{prefix}.").ranks
        assert sum(ranks.values()) == 2 * len(ranks)
    assert init.factors.keys() == set(names)
    assert eva_directions(both, uniform, AdapterConfig(), given).keys() == set(names)
