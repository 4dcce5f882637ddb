"""What a user would do instead of a search, in every study: SVD of one large training, EVA, AdaLoRA.

Their maps have ranks of their own for every module, which the study's space need not hold, so their trials
have no parameters that a sampler could see; the ranks are an attribute. The uniform ladder is in the space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from rank_search.core.ranks import RankMap
from rank_search.search.rivals.truncations import cut_to_energy, cut_to_price

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from optuna.trial import FrozenTrial

    from rank_search.core.job import Recipe
    from rank_search.core.space import Space

    Spectra = Callable[[int], Mapping[str, Sequence[float]]]

UNIFORM = "baseline:uniform"
SVD = "baseline:svd"
KINDS = {"svd": SVD, "eva": "baseline:eva", "adalora": "baseline:adalora"}  # by their name in the study file

# Attributes of their trials.
NAME = "baseline"
RECIPE = "recipe"
RANKS = "ranks"  # the map as it came out; before that, the ranks to share out
_SOURCE = "source"  # number of the trial whose adapter is truncated

_PARTS = (8, 4, 2)  # into which the price of the smallest uniform map is divided
_SHARES = (0.5, 0.7, 0.8, 0.9, 0.95)  # of each module's energy, as PEFT's users cut


@dataclass(frozen=True)
class Baseline:
    """One map outside the space.

    Attributes:
        name: what it is, different for each in a study.
        kind: of its trial.
        recipe: how its adapter comes about.
        rank_map: its ranks, or those that its recipe shares out anew.
        source: number of the trial whose adapter it is cut out of.
    """

    name: str
    kind: str
    recipe: Recipe
    rank_map: RankMap
    source: int | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """What its trial keeps."""
        return {
            "kind": self.kind,
            NAME: self.name,
            RECIPE: self.recipe,
            RANKS: dict(self.rank_map.ranks),
            _SOURCE: self.source,
        }

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Baseline | None:
        """The baseline that a trial with these attributes is, if it is one outside the space."""
        if NAME not in attributes:
            return None
        ranks = RankMap(attributes[RANKS])
        return cls(attributes[NAME], attributes["kind"], attributes[RECIPE], ranks, attributes[_SOURCE])


@dataclass(frozen=True)
class Baselines:
    """The baselines outside the space of one study.

    Attributes:
        space: what is searched; its ladder says at which sizes the baselines are wanted.
        which: names in the study file.
    """

    space: Space
    which: Collection[str]

    @property
    def names(self) -> list[str]:
        """All of them, in the order in which they are trained."""
        large = [self._large] if "svd" in self.which else []
        return [*large, *self.truncations, *self._shared_out]

    @property
    def truncations(self) -> list[str]:
        """Those that are cut out of the large adapter, without training."""
        return [*self._prices, *self._shares] if "svd" in self.which else []

    def missing(self, known: Sequence[FrozenTrial]) -> list[str]:
        """Those that no trial has begun, and that may still come: a large training that failed has no truncations."""
        begun, large = {trial.user_attrs.get(NAME) for trial in known}, self._large
        failed = any(trial.user_attrs.get(NAME) == large and trial.state == TrialState.FAIL for trial in known)
        out_of_reach = self.truncations if failed else []
        return [name for name in self.names if name not in begun and name not in out_of_reach]

    def next(self, known: Sequence[FrozenTrial], spectrum: Spectra) -> Baseline | None:
        """The first that is missing and can be made now; truncations wait for the large training.

        Args:
            known: the study's trials.
            spectrum: trial number → singular values of its adapter, by module.
        """
        large = self.large_trial(known)
        for name in self.missing(known):
            if name == self._large:
                return Baseline(name, SVD, "fresh", self.space.uniform(self._top))
            if name in self.truncations:
                if large is not None:
                    return self._truncation(name, large, spectrum(large))
            else:
                recipe, rank = self._shared_out[name]
                return Baseline(name, KINDS[recipe], recipe, self.space.uniform(rank))
        return None

    def at_price(self, price: int, known: Sequence[FrozenTrial], spectrum: Spectra) -> Baseline | None:
        """The truncation to the price of a chosen map; None where there is one, or where there can't be."""
        large = self.large_trial(known)
        begun = {trial.user_attrs.get(NAME) for trial in known}
        if "svd" not in self.which or large is None or price < self._least or _cut(price) in begun:
            return None
        return Baseline(_cut(price), SVD, "truncated", cut_to_price(spectrum(large), self.space.shapes, price), large)

    def large_trial(self, known: Sequence[FrozenTrial]) -> int | None:
        """Number of the finished trial at the large rank, if there is one."""
        complete, large = (trial for trial in known if trial.state == TrialState.COMPLETE), self._large
        return next((trial.number for trial in complete if trial.user_attrs.get(NAME) == large), None)

    def _truncation(self, name: str, large: int, values: Mapping[str, Sequence[float]]) -> Baseline:
        if name in self._prices:
            rank_map = cut_to_price(values, self.space.shapes, self._prices[name])
        else:
            rank_map = cut_to_energy(values, self.space.shapes, self._shares[name])
        return Baseline(name, SVD, "truncated", rank_map, large)

    @property
    def _ranks(self) -> list[int]:
        return [rank for rank in self.space.ladder if rank]

    @property
    def _top(self) -> int:
        """Twice the ladder's top, as far as the smallest module goes."""
        return min(2 * self.space.ladder[-1], *(min(shape) for shape in self.space.shapes.values()))

    @property
    def _large(self) -> str:
        return f"svd of rank {self._top}"

    @property
    def _prices(self) -> dict[str, int]:
        """Truncations by σ² a parameter: to the prices of the uniform maps, and to parts of the smallest one's."""
        uniform = [self.space.parameters(self.space.uniform(rank)) for rank in self._ranks]
        smaller = [price for part in _PARTS if (price := uniform[0] // part) >= self._least]
        return {_cut(price): price for price in [*smaller, *uniform]}

    @property
    def _least(self) -> int:
        """Parameters of the cheapest component."""
        return min(sum(shape) for shape in self.space.shapes.values())

    @property
    def _shares(self) -> dict[str, float]:
        return {f"svd cut to {share:.0%} of each module's energy": share for share in _SHARES}

    @property
    def _shared_out(self) -> dict[str, tuple[Recipe, int]]:
        """The recipes that share out the ranks of a uniform map anew."""
        recipes: tuple[Recipe, ...] = ("eva", "adalora")
        return {
            f"{recipe} from rank {rank}": (recipe, rank)
            for recipe in recipes
            if recipe in self.which
            for rank in self._ranks
        }


def _cut(price: int) -> str:
    return f"svd cut to {price:,} parameters"
