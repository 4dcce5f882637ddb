"""ms-swift: its command line has no ranks by module, its LoRA has, with a matching rule of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rank_search.core.errors import RankSearchError
from rank_search.export.protocol import Consumer, Trainer
from rank_search.export.scripts import write_script

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rank_search.export.training_plan import TrainingPlan


def write(plan: TrainingPlan, out: Path) -> list[str]:
    """Writes ``train.py``.

    Raises:
        RankSearchError: ms-swift's matching can't distinguish two modules of the map.
    """
    return write_script("ms_swift.py.j2", plan, with_suffix_keys(plan.lora_settings, plan.modules), out)


def with_suffix_keys(settings: Mapping[str, Any], modules: tuple[str, ...]) -> dict[str, Any]:
    r"""PEFT's settings with the keys of both patterns rewritten for ms-swift, which matches ``.*\\.KEY$``.

    No anchored key can match there. The first part of a name is left out of its key, because ms-swift wants something
    before the dot. It looks for a key among those of both patterns, and takes rank and α by the same one.

    Args:
        settings: arguments of PEFT's ``LoraConfig``; keys of patterns are anchored and escaped.
        modules: names of the base model's linear layers.

    Raises:
        RankSearchError: a key would match another module too, or a name has no dot.
    """
    rewritten = dict(settings)
    for pattern in ("rank_pattern", "alpha_pattern"):
        keys = {}
        for anchored, value in settings.get(pattern, {}).items():
            key = anchored.removeprefix("^").partition(r"\.")[2]
            matched = [name for name in modules if key and re.match(rf".*\.{key}$", name)]
            if len(matched) != 1:
                raise RankSearchError(
                    f"ms-swift matches names by their ending, and can't distinguish {anchored.removeprefix('^')} from "
                    "others in this model; use --to trl"
                )
            keys[key] = value
        if keys:
            rewritten[pattern] = keys
    return rewritten


CONSUMER = Consumer(
    "ms-swift",
    trainer=Trainer("ms-swift", "ms-swift", write, releases=("ms_swift==4.6.0", "peft==0.18.1")),
    position=92,
)
