"""The candidate: what one trial trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rank_search.core.ranks import RankMap

Recipe = Literal["scratch", "eva", "adalora", "truncate", "recover"]
CUTS: frozenset[Recipe] = frozenset({"truncate", "recover"})  # out of the adapter of a larger training
SETS_RANKS: frozenset[Recipe] = frozenset({"eva", "adalora"})  # the ranks that come out are not the requested ones


@dataclass(frozen=True)
class Candidate:
    """A rank map with all that says how its adapter comes about.

    It goes unchanged from proposal to job, to the trial's record, to verdict and export. The ranks are those that are
    asked for: what ``eva`` and ``adalora`` make of them is a result, and is kept apart (`TrialRecord.ranks`).

    Attributes:
        rank_map: the ranks to train at; for ``eva`` and ``adalora`` the ranks to redistribute.
        settings: what it is trained at (``learning_rate``, ``head_learning_rate``, ``alpha``, ``dropout``,
            ``augmentation``, ``steps``), being searched beside the ranks or tuned for maps of its size; empty where
            the study file's own values hold.
        recipe: how the adapter comes about. ``scratch``: trained from the study file's initialisation; ``eva``: from
            EVA's directions, at ranks that EVA redistributes; ``adalora``: by AdaLoRA, which sets the ranks;
            ``truncate``: cut out of the source trial's adapter, without training; ``recover``: cut out of it, and then
            trained for ``steps``.
        source: number of the trial whose adapter is truncated. On another seed, or another order of batches, what that
            trial trained is trained again first.
    """

    rank_map: RankMap
    settings: Mapping[str, float] = field(default_factory=dict)
    recipe: Recipe = "scratch"
    source: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Candidate) and self.key == other.key

    @property
    def key(self) -> str:
        """Names this candidate, also as a part of a file's name.

        It is the map's key, followed by what differs from a plain training from scratch, such as
        ``1c5e…-learning_rate=0.002`` or ``1c5e…-truncate-7``.
        """
        parts = [self.rank_map.key, *(f"{name}={value!r}" for name, value in sorted(self.settings.items()))]
        if self.recipe != "scratch":
            parts.append(self.recipe)
        if self.source is not None:
            parts.append(str(self.source))
        return "-".join(parts)
