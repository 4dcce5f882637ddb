"""Seeds: one independent stream of random numbers for each use, all derived from the study's seed."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream of seeds is for. The numbers are part of what makes a study reproducible: never change them."""

    SAMPLER = 0
    ADAPTER = 1
    BATCHES = 2
    SUPERNET = 3
    VERDICT = 4
    RATES = 5


def derive_seed(study_seed: int, *path: int) -> int:
    """A 32-bit seed for one place in a study, by numpy's SeedSequence."""
    return int(np.random.SeedSequence([study_seed, *path]).generate_state(1)[0])


def batch_seed(study_seed: int, batch_order: int = 0) -> int:
    """The seed of an order of batches: 0 is shared by all first trainings, each round of repeats has its own."""
    return derive_seed(study_seed, Stream.BATCHES, *([batch_order] if batch_order else []))


def adapter_seed(study_seed: int, batch_order: int) -> int:
    """The seed of the fresh adapters that are trained on an order of batches."""
    return derive_seed(study_seed, Stream.ADAPTER, batch_order)


def verdict_seeds(study_seed: int, repeat: int) -> tuple[int, int]:
    """Seeds of a fresh training for the verdict: of its adapter, and of its batches."""
    return derive_seed(study_seed, Stream.VERDICT, repeat, 0), derive_seed(study_seed, Stream.VERDICT, repeat, 1)


def rate_seeds(study_seed: int, repeat: int) -> tuple[int, int]:
    """Seeds of a training in the search for learning rates: of its adapter, and of its batches."""
    return derive_seed(study_seed, Stream.RATES, repeat, 0), derive_seed(study_seed, Stream.RATES, repeat, 1)
