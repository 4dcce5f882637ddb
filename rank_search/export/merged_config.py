"""The configuration of a merged model, which must be that of its base model before anything is built from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rank_search.export.updates import Refused

if TYPE_CHECKING:
    from rank_search.export.protocol import Bundle

# Fields of a configuration in which a merged model differs from its base model.
_FREE = frozenset(
    {
        "_name_or_path",
        "architectures",
        "dtype",
        "id2label",
        "label2id",
        "problem_type",
        "tie_word_embeddings",
        "transformers_version",
    }
)


def check_config(bundle: Bundle) -> None:
    """Checks that ``config.json`` of a merged bundle describes the base model.

    Raises:
        Refused: it describes another one, such as one of a billion layers.
    """
    base = bundle.base.model.config
    content = json.loads((bundle.folder / "config.json").read_text(encoding="utf-8"))
    if "num_labels" in content:  # it would make a name for each; the names themselves are in the file
        raise Refused("config.json has num_labels, which no export writes")
    found, expected = type(base).from_dict(content).to_dict(), base.to_dict()
    for name in sorted((found.keys() | expected.keys()) - _FREE):
        if found.get(name) != expected.get(name):
            raise Refused(
                f"config.json has {name} {found.get(name)!r:.60}, and the base model {expected.get(name)!r:.60}"
            )
