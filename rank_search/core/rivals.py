"""Rivals: the candidates that cost no search, which every study trains and every searched map has to beat.

The uniform ladder; truncations of one large training by SVD, and their ranks trained from scratch; families of modules;
EVA's redistribution; AdaLoRA. Which of them a study wants follows from its space and its study file alone. Truncations,
EVA and AdaLoRA are outside the space: their adapters come about in other ways than those that a sampler proposes, and
have a rank of their own for every module, so their trials have no parameters that a sampler could see. A rule may
choose any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection

    from rank_search.core.candidate import Recipe
    from rank_search.core.space import Space

Kind = Literal[
    "search",
    "baseline:uniform",
    "baseline:svd",
    "baseline:retrained",
    "baseline:family",
    "baseline:eva",
    "baseline:adalora",
]

SEARCH: Kind = "search"  # proposed by the sampler, or the prior of the study file
UNIFORM: Kind = "baseline:uniform"
SVD: Kind = "baseline:svd"
RETRAINED: Kind = "baseline:retrained"  # the ranks of a truncation, trained from scratch
FAMILY: Kind = "baseline:family"  # modules of one kind, or of one part of the model
EVA: Kind = "baseline:eva"
ADALORA: Kind = "baseline:adalora"
KINDS: dict[str, Kind] = {"svd": SVD, "eva": EVA, "adalora": ADALORA}  # by their name in the study file

LIKELY = 0.01  # probability of standing on the front, below which no rule chooses a map and its adapter is not kept
_PARTS = (8, 4, 2)  # fractions of the smallest uniform map's parameters that truncations are made to
_ENERGIES = (0.5, 0.7, 0.8, 0.9, 0.95)  # shares of each module's energy, as users of PEFT's convert_to_lora choose them


@dataclass(frozen=True)
class Rival:
    """One rival outside the space; its fields identify it within a study.

    Attributes:
        kind: of its trial.
        recipe: how its adapter comes about.
        rank: uniform rank to train at, or to redistribute; None for truncations.
        budget: trainable parameters that a truncation may have at most.
        energy: share of each module's Σσ² that a truncation keeps.
    """

    kind: Kind
    recipe: Recipe
    rank: int | None = None
    budget: int | None = None
    energy: float | None = None

    @property
    def label(self) -> str:
        """The rival in words, for people."""
        if self.budget is not None:
            return f"SVD truncated to {self.budget:,} parameters"
        if self.energy is not None:
            return f"SVD truncated to {self.energy:.0%} of each module's energy"
        names = {SVD: "large training for SVD, rank", EVA: "EVA from rank", ADALORA: "AdaLoRA from rank"}
        return f"{names[self.kind]} {self.rank}"


def truncated_to(budget: int) -> Rival:
    """The truncation with the most σ² a parameter that a number of parameters allows."""
    return Rival(SVD, "truncate", budget=budget)


@dataclass(frozen=True)
class Rivals:
    """The rivals outside the space of one study.

    Attributes:
        space: what is searched; the ranks of its ladder say at which sizes rivals are wanted.
        names: those that the study file asks for (`KINDS`).
    """

    space: Space
    names: Collection[str]

    @property
    def all(self) -> tuple[Rival, ...]:
        """All of them, in the order in which they are trained."""
        large = (self.large,) if "svd" in self.names else ()
        return (*large, *self.truncations, *self.redistributions)

    @property
    def large(self) -> Rival:
        """The one large training that truncations are made of: at twice the ladder's top, as far as shapes allow."""
        smallest = min(min(shape) for shape in self.space.shapes.values())
        return Rival(SVD, "scratch", rank=min(2 * self.space.ladder[-1], smallest))

    @property
    def truncations(self) -> tuple[Rival, ...]:
        """Truncations to the sizes of the uniform maps, to parts of the smallest one's, and by energy."""
        if "svd" not in self.names:
            return ()
        uniform = [self.space.parameters(self.space.uniform(rank)) for rank in self._ranks]
        smaller = [uniform[0] // part for part in _PARTS if uniform[0] // part >= self.smallest_budget]
        by_size = [truncated_to(budget) for budget in dict.fromkeys([*smaller, *uniform])]
        return (*by_size, *(Rival(SVD, "truncate", energy=energy) for energy in _ENERGIES))

    @property
    def redistributions(self) -> tuple[Rival, ...]:
        """EVA and AdaLoRA, which redistribute the ranks of each uniform map."""
        eva = (Rival(EVA, "eva", rank=rank) for rank in self._ranks if "eva" in self.names)
        adalora = (Rival(ADALORA, "adalora", rank=rank) for rank in self._ranks if "adalora" in self.names)
        return (*eva, *adalora)

    @property
    def smallest_budget(self) -> int:
        """Parameters of the cheapest component: a truncation to less would be empty."""
        return min(sum(shape) for shape in self.space.shapes.values())

    @property
    def _ranks(self) -> list[int]:
        return [rank for rank in self.space.ladder if rank]
