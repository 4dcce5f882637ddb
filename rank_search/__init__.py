"""Which LoRA rank does each layer of a model deserve? An Optuna search that answers, and exports the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.core.errors import InputError, RankSearchError, SearchStopped
from rank_search.core.ranks import RankMap, Shape

if TYPE_CHECKING:
    from rank_search.app.results import Results

__all__ = ["InputError", "RankMap", "RankSearchError", "SearchStopped", "Shape", "load"]
__version__ = "0.1.0"


def load(study: str, storage: str | None = None) -> Results:
    """The results of a study: trials, front, chosen map, figures; see `rank_search.app.results`.

    Args:
        study: its name under ``studies/``, or the path of its folder.
        storage: URL of another storage than the folder's own SQLite file.

    Raises:
        InputError: there is no such study.
        RankSearchError: it has no scored trial yet.
    """
    from rank_search.app.results import load as loaded  # pandas and optuna take their time

    return loaded(study, storage)
