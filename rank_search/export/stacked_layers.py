"""How LoRAX and TGI, which share this code, load an adapter: all layers' modules of a kind stacked into one tensor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rank_search.core.module_names import kind_of, layer_of
from rank_search.export.updates import AppliedUpdates, NotServed, Refused

if TYPE_CHECKING:
    from torch import Tensor

    from rank_search.export.adapter_files import AdapterFiles
    from rank_search.export.protocol import ServedBundle

_LEAST_RANK = 8  # they pad lower ranks to it; on several GPUs, each GPU's share of a rank
_RANK_STEP = 16


def rule(adapter: AdapterFiles) -> AppliedUpdates:
    """One global scale; a kind of module that one layer lacks is left out altogether.

    Ranks are padded to 8, or to multiples of 16, and the padded number replaces r for the kinds that follow. This is
    on one GPU; on several, each pads its share of the rank to 8.

    Source, in LoRAX at commit 03679f3: ``lorax_server/adapters/lora.py``, ``LoraWeights.load``;
    ``lorax_server/utils/sgmv.py``, ``pad_rank``. In TGI at commit 45d95bd: ``text_generation_server/adapters/lora.py``,
    ``LoraWeights.prepare_weights``.

    Raises:
        Refused: the layers' modules of one kind have several ranks.
        NotServed: modules were trained whole, or modules outside layers are adapted.
    """
    if adapter.whole:
        raise NotServed("takes no modules_to_save")
    if outside := [name for name in adapter.factors if layer_of(name) == name]:
        raise NotServed(f"how it loads adapters outside layers, such as {outside[0]}, is not modelled")
    kinds: dict[str, list[str]] = {}
    for name in adapter.modules:
        if layer_of(name) != name:
            kinds.setdefault(kind_of(name), []).append(name)
    scaling_rank = adapter.settings.r
    updates: dict[str, tuple[Tensor, Tensor, float]] = {}
    for kind, names in kinds.items():
        if any(name not in adapter.factors for name in names):
            continue
        ranks = {len(adapter.factors[name][0]) for name in names}
        if len(ranks) > 1:
            raise Refused(f"it stacks the layers' {kind}, which have ranks {sorted(ranks)}")
        scale = adapter.scale(scaling_rank)
        updates |= {name: (*adapter.factors[name], scale) for name in names}
        scaling_rank = _padded(ranks.pop())
    return AppliedUpdates(updates)


def _padded(rank: int) -> int:
    return _LEAST_RANK if rank <= _LEAST_RANK else math.ceil(rank / _RANK_STEP) * _RANK_STEP


def serving_note(bundle: ServedBundle) -> str:
    """On how many GPUs the scale stays right; one note for both programs."""
    gpus = bundle.top_rank // _LEAST_RANK
    return f"LoRAX and TGI: on up to {gpus} GPU (--num-shard); on more they scale it wrongly"
