"""Maps cut out of a large adapter: what to keep of it, by how much each component weighs and what it costs."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from rank_search.core.ranks import RankMap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rank_search.core.ranks import Shape
    from rank_search.core.space import Space


def cut_to_price(values: Mapping[str, Sequence[float]], shapes: Mapping[str, Shape], price: int) -> RankMap:
    """The components with the most σ² a parameter, over all modules together, as far as a price goes.

    Args:
        values: module → singular values, descending.
        shapes: module → (in, out), whose sum is what a component costs.
        price: trainable parameters that the map may have at most.
    """
    worth = [(sigma**2 / sum(shapes[name]), name) for name, sigmas in values.items() for sigma in sigmas]
    ranks = dict.fromkeys(shapes, 0)
    left = price
    for _, name in sorted(worth, key=lambda of: -of[0]):
        if sum(shapes[name]) <= left:
            ranks[name] += 1
            left -= sum(shapes[name])
    return RankMap(ranks)


def cut_to_energy(values: Mapping[str, Sequence[float]], shapes: Mapping[str, Shape], share: float) -> RankMap:
    """Of each module by itself, as few components as hold a share of its Σσ²: PEFT's ``convert_to_lora``."""
    ranks = dict.fromkeys(shapes, 0)
    for name, sigmas in values.items():
        sums = list(accumulate(sigma**2 for sigma in sigmas))
        ranks[name] = 1 + next(i for i, energy in enumerate(sums) if energy >= share * sums[-1])
    return RankMap(ranks)


def cut_path(energies: Mapping[str, Sequence[float]], space: Space) -> list[RankMap]:
    """Maps of the space from the smallest to the largest: each step raises the rank that adds most a parameter.

    Args:
        energies: module → weight of each component, such as σ²; at least as many as the ladder's top.
        space: what is searched.
    """
    ladder = space.ladder
    index: dict[str, float] = dict.fromkeys(space.dimensions, 0)

    def worth(dimension: str) -> float:
        low, high = ladder[int(index[dimension])], ladder[int(index[dimension]) + 1]
        modules = space.dimensions[dimension]
        price = sum((high - low) * sum(space.shapes[module]) for module in modules)
        return sum(sum(energies[module][low:high]) for module in modules) / price

    path = [space.rank_map(index)]
    while raisable := [name for name, i in index.items() if i + 1 < len(ladder)]:
        index[max(raisable, key=worth)] += 1
        path.append(space.rank_map(index))
    return path


def spread(path: Sequence[RankMap], space: Space, count: int) -> list[RankMap]:
    """So many maps of a `cut_path`, evenly spaced on a log scale of their price, as fronts are looked at."""
    sizes = np.array([space.parameters(ranks) for ranks in path])
    wanted = np.geomspace(sizes[sizes > 0].min(), sizes.max(), count)
    return [path[i] for i in dict.fromkeys(np.searchsorted(sizes, wanted * 0.999).tolist())]
