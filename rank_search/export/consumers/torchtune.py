"""torchtune: trains with one rank for all modules, so it can't train a rank map."""

from rank_search.export.protocol import ONE_RANK, Consumer, Refusal

CONSUMER = Consumer("torchtune", refusal=Refusal("torchtune", ONE_RANK))
