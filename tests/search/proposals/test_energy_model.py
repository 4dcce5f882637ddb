"""What the spectrum of one large training says of any map."""

import numpy as np
import pytest
import torch

from rank_search.search.proposals.encoder import Encoder
from rank_search.search.proposals.energy_model import EnergyModel
from tests.bench import SPACE

ENERGIES = {
    name: [weight / (1 + i) ** 2 for i in range(8)] for name, weight in zip(SPACE.shapes, (4, 1, 3, 2), strict=True)
}


def said(*proposals) -> list[float]:
    encoder = Encoder(SPACE)
    draw = np.random.default_rng(0)
    drawn = encoder.ranks([encoder.drawn(draw) for _ in range(64)])
    model = EnergyModel(SPACE, ENERGIES, drawn)
    assert model(drawn).mean().item() == pytest.approx(0, abs=1e-9)
    assert model(drawn).std().item() == pytest.approx(1)
    points = encoder.ranks([dict(zip(SPACE.dimensions, proposal, strict=True)) for proposal in proposals])
    return model(points)[:, 0].tolist()


def test_a_higher_rank_never_says_less_and_a_heavier_module_says_more() -> None:
    light, heavy, both, more = said((0, 1, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0), (2, 1, 0, 0))
    assert light < heavy < both < more


def test_what_is_kept_of_the_energy_is_additive() -> None:
    nothing, one, other, both, all_of_it = np.exp(
        said((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (1, 1, 0, 0), (3, 3, 3, 3))
    )
    assert nothing < one
    power = np.log(all_of_it / one) / np.log(sum(sum(kept[:4]) for kept in ENERGIES.values()) / 4)
    shares = np.array([one, other, both]) ** (1 / power)
    assert shares[2] == pytest.approx(shares[0] + shares[1], rel=1e-6)


def test_points_hold_what_energies_say_before_the_cost() -> None:
    encoder, plain = Encoder(SPACE, energies=ENERGIES), Encoder(SPACE)
    proposals = [plain.drawn(np.random.default_rng(seed)) for seed in range(9)]
    points, without = encoder.points(proposals), plain.points(proposals)
    assert encoder.expects
    assert torch.equal(torch.cat([points[:, :-2], points[:, -1:]], dim=1), without)
