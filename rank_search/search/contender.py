"""A map that is trained afresh for the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rank_search.core.ranks import RankMap


@dataclass(frozen=True)
class Contender:
    """A map that takes part, at its own settings."""

    rank_map: RankMap
    settings: Mapping[str, float]

    @property
    def name(self) -> str:
        """Tells it from others, as part of a file's name."""
        settings = "".join(f"-{name}={value:.6g}" for name, value in sorted(self.settings.items()))
        return f"{self.rank_map.key}{settings}"
