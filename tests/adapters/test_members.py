"""Initial adapters that are given, instead of drawn by the init rule."""

import torch

from rank_search.adapters import AdapterInit, Member, TrainableParameters, packed
from rank_search.config import AdapterConfig
from rank_search.core.ranks import RankMap
from tests.packs import MODELS, SPACES, tensors

NAME = "bert.encoder.layer.0.attention.self.query"
SHAPE = SPACES["bert"].shapes[NAME]


def test_a_map_takes_the_first_components_of_an_initial_adapter_and_its_head() -> None:
    factors = (torch.randn(SHAPE.in_features, 5), torch.randn(5, SHAPE.out_features))
    head = {name: torch.randn_like(weight) for name, weight in MODELS["bert"].classifier.state_dict().items()}
    init = AdapterInit({NAME: factors}, head={"classifier": head})
    members = [Member(RankMap({NAME: rank}), AdapterConfig(), 0, init) for rank in (2, 4)]
    with packed(MODELS["bert"], members, head=("classifier",)) as pack:
        for k, rank in enumerate((2, 4)):
            ((a, b),) = tensors(pack, k).values()
            assert torch.equal(a[:, :rank], factors[0][:, :rank])
            assert torch.equal(b[:rank], factors[1][:rank])
            assert (a[:, rank:] == 0).all()
        state = pack.state()
    assert all(torch.equal(state[f"classifier.{k}.{name}"], head[name]) for k in (0, 1) for name in head)


def test_trainable_parameters_of_a_slot_are_views_of_the_pack() -> None:
    """A step on them changes the pack; other slots are unchanged."""
    members = [Member(RankMap({NAME: 2}), AdapterConfig(), seed) for seed in (0, 1)]
    with packed(MODELS["bert"], members, head=("classifier",)) as pack:
        before = {name: tensor.clone() for name, tensor in pack.state().items()}
        (parameters,) = pack.trainable(1)
        assert isinstance(parameters, TrainableParameters)
        assert parameters.all == [*parameters.adapter, *parameters.head]
        assert [weight.shape for weight in parameters.adapter] == [(SHAPE.in_features, 2), (2, SHAPE.out_features)]
        with torch.no_grad():
            for weight in parameters.all:
                weight.add_(1)
        after = pack.state()
    assert torch.equal(after[f"{NAME}.A"][1], before[f"{NAME}.A"][1] + 1)
    assert torch.equal(after[f"{NAME}.A"][0], before[f"{NAME}.A"][0])
    assert torch.equal(after["classifier.1.bias"], before["classifier.1.bias"] + 1)
    assert torch.equal(after["classifier.0.bias"], before["classifier.0.bias"])
