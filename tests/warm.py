"""What processes that are forked from a server have done already: imports, and reading the embedded data set."""

import sentence_transformers  # noqa: F401

import tests.parsed_once  # noqa: F401
from rank_search.config import RetrievalConfig
from rank_search.data.stdlib import load_stdlib_pairs

load_stdlib_pairs(RetrievalConfig(kind="retrieval"))
