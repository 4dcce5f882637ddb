"""Maps of truncations: which components of a large adapter to keep, by their weight and their cost."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from rank_search.core.ranks import RankMap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rank_search.core.ranks import Shape
    from rank_search.core.space import Space


def truncate_to_budget(spectrum: Mapping[str, Sequence[float]], shapes: Mapping[str, Shape], budget: int) -> RankMap:
    """The components with the most σ² a parameter, over all modules together, as far as a budget goes.

    Args:
        spectrum: module → singular values, descending.
        shapes: module → (in, out), whose sum is the cost of a component.
        budget: trainable parameters that the map may have at most.
    """
    components = [(sigma**2 / sum(shapes[name]), name) for name, sigmas in spectrum.items() for sigma in sigmas]
    ranks = dict.fromkeys(shapes, 0)
    left = budget
    for _, name in sorted(components, key=lambda component: -component[0]):
        if sum(shapes[name]) <= left:
            ranks[name] += 1
            left -= sum(shapes[name])
    return RankMap(ranks)


def truncate_to_energy(spectrum: Mapping[str, Sequence[float]], shapes: Mapping[str, Shape], share: float) -> RankMap:
    """Of each module by itself, as few components as hold a share of its Σσ²: PEFT's ``convert_to_lora``."""
    ranks = dict.fromkeys(shapes, 0)
    for name, sigmas in spectrum.items():
        sums = list(accumulate(sigma**2 for sigma in sigmas))
        ranks[name] = 1 + next(i for i, energy in enumerate(sums) if energy >= share * sums[-1])
    return RankMap(ranks)


def truncation_path(energies: Mapping[str, Sequence[float]], space: Space) -> list[RankMap]:
    """Maps of the space from the smallest to the largest: each step raises the rank that adds most a parameter.

    Args:
        energies: module → weight of each component, such as σ²; at least as many as the ladder's top.
        space: what is searched.
    """
    ladder = space.ladder
    index: dict[str, float] = dict.fromkeys(space.dimensions, 0)

    def gain(dimension: str) -> float:
        low, high = ladder[int(index[dimension])], ladder[int(index[dimension]) + 1]
        modules = space.dimensions[dimension]
        cost = sum((high - low) * sum(space.shapes[module]) for module in modules)
        return sum(sum(energies[module][low:high]) for module in modules) / cost

    path = [space.rank_map(index)]
    while raisable := [name for name, i in index.items() if i + 1 < len(ladder)]:
        index[max(raisable, key=gain)] += 1
        path.append(space.rank_map(index))
    return path


def spread(path: Sequence[RankMap], space: Space, count: int) -> list[RankMap]:
    """Maps of a `truncation_path`, evenly spaced on a log scale of their parameters, as fronts are looked at."""
    sizes = np.array([space.parameters(rank_map) for rank_map in path])
    wanted = np.geomspace(sizes[sizes > 0].min(), sizes.max(), count)
    return [path[i] for i in dict.fromkeys(np.searchsorted(sizes, wanted * 0.999).tolist())]
