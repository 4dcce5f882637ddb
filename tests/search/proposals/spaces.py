"""Spaces that proposals are made in, and the scores of their maps."""

from __future__ import annotations

import dataclasses

import numpy as np

from rank_search.core.space import JointSetting, Space
from tests.bench import SPACE

JOINT = dataclasses.replace(
    SPACE,
    joint={
        "learning_rate": JointSetting(1e-4, 1e-2, 1e-3, log=True),
        "augmentation": JointSetting(0, 1, 0, switch=True),
    },
)
LARGE = Space(
    shapes={
        f"layer.{i}.{part}": shape for i in range(8) for part, shape in zip("ab", SPACE.shapes.values(), strict=False)
    },
    dimensions={f"{i}{part}": (f"layer.{i}.{part}",) for i in range(8) for part in "ab"},
    ladder=(0, 1, 2, 4),
)


def landscape(space, proposal) -> float:
    """The score of a map: concave in each layer's rank, and weighted by the layer."""
    weights = 1 / (1 + np.arange(len(space.dimensions)))
    ranks = [space.ladder[int(proposal[name])] for name in space.dimensions]
    return float(weights @ np.sqrt(ranks)) / 10
