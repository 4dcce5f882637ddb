"""Which LoRA rank does each layer of a model deserve? An Optuna search that answers, and exports the answer."""

from rank_search.errors import InputError, RankSearchError, SearchStopped
from rank_search.ranks import RankMap, Shape

__all__ = ["InputError", "RankMap", "RankSearchError", "SearchStopped", "Shape"]
__version__ = "0.1.0"
