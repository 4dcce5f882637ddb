"""The rank map: which LoRA rank each module of a model gets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Shape(NamedTuple):
    """The two sizes of a linear map, whichever way its weight is stored."""

    in_features: int
    out_features: int


@dataclass(frozen=True)
class RankMap:
    """Module name → LoRA rank; rank 0 leaves that module alone.

    Names are those of the base model's ``named_modules()``. A module with rank 0 and a module that is
    not named are the same thing to a model, so `key` treats them alike; ``==`` compares the maps as
    written.

    Raises:
        ValueError: a rank is negative or not an integer.
    """

    ranks: Mapping[str, int]

    def __post_init__(self) -> None:
        for name, rank in self.ranks.items():
            if not isinstance(rank, int) or isinstance(rank, bool) or rank < 0:
                raise ValueError(f"the rank of {name!r} must be an integer ≥ 0, not {rank!r}")
        object.__setattr__(self, "ranks", MappingProxyType(dict(self.ranks)))

    def __hash__(self) -> int:
        return hash(frozenset(self.ranks.items()))

    @property
    def adapted(self) -> dict[str, int]:
        """The modules that get an adapter: those with a rank above 0."""
        return {name: rank for name, rank in self.ranks.items() if rank > 0}

    def under(self, prefix: str) -> RankMap:
        """The part of this map whose names begin with ``prefix``, without it."""
        return RankMap({name.removeprefix(prefix): r for name, r in self.ranks.items() if name.startswith(prefix)})

    @property
    def key(self) -> str:
        """16 hex digits that name this map; neither the order of its modules nor its zeros change them."""
        canonical = json.dumps(self.adapted, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def trainable_parameters(self, shapes: Mapping[str, Shape]) -> int:
        """Σ r·(in + out) over the adapted modules: exact, and known before any training.

        A is ``[r, in]`` and B is ``[out, r]``; LoRA (arXiv:2106.09685), section 4.1.

        Raises:
            KeyError: an adapted module has no shape.
        """
        return sum(rank * sum(shapes[name]) for name, rank in self.adapted.items())

    def _repr_html_(self) -> str:
        """A table of module and rank, where a notebook shows the map."""
        rows = "".join(f"<tr><td>{escape(name)}</td><td>{rank}</td></tr>" for name, rank in self.ranks.items())
        return f"<table><tr><th>module</th><th>rank</th></tr>{rows}</table>"

    def to_json(self) -> str:
        """A JSON object of module name → rank, zeros included."""
        return json.dumps(dict(self.ranks), indent=2)

    @classmethod
    def from_json(cls, text: str) -> RankMap:
        """The map that `to_json` wrote.

        Raises:
            ValueError: the text is not a JSON object of integers ≥ 0.
        """
        ranks = json.loads(text)
        if not isinstance(ranks, dict):
            raise ValueError("a rank map is a JSON object of module name → rank")
        return cls(ranks)
