"""Packed layers against the formula h = W x + s · B A x, written out for each map."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rank_search.adapters.layers import PackedHead, PackedLinear
from rank_search.adapters.rows import RowRouter
from rank_search.core.ranks import Shape

IN, OUT, BATCH, LENGTH = 6, 5, 2, 3


def router(maps: int) -> RowRouter:
    made = RowRouter()
    made.reset(maps, {})
    return made


def layer(ranks: list[int], scales: list[float], rows: RowRouter, dropout: float = 0.0) -> PackedLinear:
    """Random weights, also where A and B are padded."""
    torch.manual_seed(0)
    made = PackedLinear(nn.Linear(IN, OUT).requires_grad_(False), Shape(IN, OUT), len(ranks), 4, rows).eval()
    generators = [torch.Generator().manual_seed(k) for k in range(len(ranks))]
    made.assign(ranks, scales, [dropout] * len(ranks), generators)
    nn.init.normal_(made.A)
    nn.init.normal_(made.B)
    return made


def inputs(maps: int) -> torch.Tensor:
    return torch.randn(maps * BATCH, LENGTH, IN, generator=torch.Generator().manual_seed(1))


ranks_and_scales = st.lists(st.tuples(st.integers(0, 4), st.floats(0.1, 8)), min_size=1, max_size=4)


@given(ranks_and_scales)
def test_each_map_computes_the_formula_on_its_own_rows(drawn) -> None:
    ranks, scales = ([*values] for values in zip(*drawn, strict=True))
    made, x = layer(ranks, scales, router(len(ranks))), inputs(len(ranks))
    for k, (rows, found) in enumerate(zip(x.chunk(len(ranks)), made(x).chunk(len(ranks)), strict=True)):
        a, b = made.A[k, :, : ranks[k]], made.B[k, : ranks[k]]
        expected = made.base(rows) + scales[k] * (rows @ a) @ b
        assert torch.allclose(found, expected, atol=1e-4)


def test_gradient_stops_at_a_maps_rank() -> None:
    made = layer([2, 0, 4], [1.0, 1.0, 1.0], router(3))
    made(inputs(3)).square().sum().backward()
    assert (made.A.grad[0, :, :2] != 0).all()
    assert (made.A.grad[0, :, 2:] == 0).all()
    assert (made.A.grad[1] == 0).all()
    assert (made.B.grad[2] != 0).all()


def test_nan_of_one_map_does_not_reach_a_map_without_an_adapter() -> None:
    made, x = layer([2, 0], [1.0, 1.0], router(2)), inputs(2)
    with torch.no_grad():
        made.A[0] = torch.nan
    wild, calm = made(x).chunk(2)
    assert wild.isnan().all()
    assert torch.equal(calm, made.base(x.chunk(2)[1]))


def test_dropout_keeps_the_mean_and_is_off_in_evaluation() -> None:
    made = layer([2], [1.0], router(1), dropout=0.4)
    x = torch.ones(20_000, 1, IN)
    calm = made(x)
    made.training = True
    wet = made(x)
    assert not torch.allclose(wet[0], calm[0])
    assert torch.allclose(wet.mean(0), calm.mean(0), atol=0.1)


def test_sum_of_a_wide_base_and_a_narrow_adapter_is_rounded_once() -> None:
    """As PEFT does: products in the adapter's type, the sum in the wider one."""
    rows = router(1)
    made, x = layer([3], [0.5], rows), inputs(1)
    rows.dtype = torch.bfloat16
    narrow = x.reshape(-1, IN).bfloat16()
    change = (narrow @ made.A[0, :, :3].bfloat16() * torch.tensor(0.5).bfloat16()) @ made.B[0, :3].bfloat16()
    expected = made.base(x) + change.float().view(BATCH, LENGTH, OUT)
    found = made(x)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-6)


def test_head_gives_each_map_its_copy() -> None:
    torch.manual_seed(0)
    copies = [nn.Linear(IN, OUT) for _ in range(3)]
    rows = router(3)
    head, x = PackedHead(copies[0], copies, rows), inputs(3)
    for copy, part, found in zip(copies, x.chunk(3), head(x).chunk(3), strict=True):
        assert torch.equal(found, copy(part))
    rows.active = [2]
    assert torch.equal(head(x[:BATCH]), copies[2](x[:BATCH]))


@pytest.mark.parametrize("given", [torch.tensor([[1, 2]]), torch.ones(1, 2, 4, dtype=torch.bfloat16)])
def test_head_takes_token_ids_and_other_precisions(given) -> None:
    base = nn.Linear(4, 2) if given.is_floating_point() else nn.Embedding(5, 3)
    found = PackedHead(base, [base], router(1))(given)
    assert torch.allclose(found, base(given.to(torch.float32) if given.is_floating_point() else given))
