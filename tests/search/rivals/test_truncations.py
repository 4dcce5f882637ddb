import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.search.rivals.truncations import spread, truncate_to_budget, truncate_to_energy, truncation_path
from tests.bench import SPACE

NAMES = list(SPACE.shapes)
spectra = st.lists(
    st.lists(st.floats(1e-3, 10), min_size=1, max_size=6).map(lambda of: sorted(of, reverse=True)),
    min_size=len(NAMES),
    max_size=len(NAMES),
).map(lambda lists: dict(zip(NAMES, lists, strict=True)))


@given(spectra, st.integers(0, 600))
def test_truncate_to_budget_spends_what_it_can_and_no_more(values, price) -> None:
    """What is left of the price pays for no further component of any module."""
    ranks = truncate_to_budget(values, SPACE.shapes, price)
    left = price - ranks.trainable_parameters(SPACE.shapes)
    assert left >= 0
    cost = {name: sum(shape) for name, shape in SPACE.shapes.items()}
    for name, rank in ranks.ranks.items():
        assert rank <= len(values[name])
        if rank < len(values[name]):
            assert cost[name] > left


def test_truncate_to_budget_takes_the_heaviest_components_first() -> None:
    values = {NAMES[0]: [3.0, 0.1], NAMES[1]: [2.0, 1.9], NAMES[2]: [0.5], NAMES[3]: [0.4]}
    assert list(truncate_to_budget(values, SPACE.shapes, 65).ranks.values()) == [1, 2, 0, 0]


@given(spectra, st.sampled_from([0.5, 0.9, 0.95]))
def test_truncate_to_energy_is_the_least_that_holds_the_share(values, share) -> None:
    for name, rank in truncate_to_energy(values, SPACE.shapes, share).ranks.items():
        energy = [sigma**2 for sigma in values[name]]
        assert sum(energy[:rank]) >= share * sum(energy) - 1e-9
        assert rank == 1 or sum(energy[: rank - 1]) < share * sum(energy)


def test_path_goes_up_one_rung_at_a_time() -> None:
    energies = {name: [1.0 / (1 + i + j) for j in range(4)] for i, name in enumerate(NAMES)}
    path = truncation_path(energies, SPACE)
    assert path[0] == SPACE.uniform(0)
    assert path[-1] == SPACE.uniform(4)
    for before, after in itertools.pairwise(path):
        steps = [SPACE.ladder.index(after.ranks[n]) - SPACE.ladder.index(before.ranks[n]) for n in NAMES]
        assert sorted(steps) == [0, 0, 0, 1]
    assert path[1].ranks[NAMES[0]] == 1  # it weighs most, and costs least


@pytest.mark.parametrize("count", [2, 4])
def test_spread_reaches_from_the_smallest_to_the_largest(count) -> None:
    energies = {name: [1.0, 0.5, 0.2, 0.1] for name in NAMES}
    picked = spread(truncation_path(energies, SPACE), SPACE, count)
    sizes = [SPACE.parameters(ranks) for ranks in picked]
    assert len(picked) == count
    assert sizes == sorted(sizes)
    assert sizes[0] > 0
    assert picked[-1] == SPACE.uniform(4)
