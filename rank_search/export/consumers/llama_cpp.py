"""llama.cpp: an adapter as a GGUF file, with one α for all modules."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rank_search.export.protocol import CAUSAL_LMS, Consumer, Reader
from rank_search.export.updates import AppliedUpdates, Refused

if TYPE_CHECKING:
    from torch import Tensor

    from rank_search.export.protocol import Bundle

_GGUF = frozenset({"gguf"})


def rule(bundle: Bundle) -> AppliedUpdates:
    """Each tensor's own rank, and one α; α = 0 stands for scale 1.

    Source: ``src/llama-adapter.h``, ``llama_adapter_lora_weight::get_scale`` (in llama-cpp-python 0.3.36).
    """
    from rank_search.adapters import lora_scale
    from rank_search.export.gguf_file import FILE, read_gguf
    from rank_search.models.modules import linear_modules

    model, config = bundle.base.model, bundle.base.model.config
    alpha, factors = read_gguf(bundle.folder / FILE, config.model_type, config.to_dict(), linear_modules(model))
    return AppliedUpdates(
        {name: (a, b, lora_scale(alpha, len(a)) if alpha else 1.0) for name, (a, b) in factors.items()}
    )


def run(bundle: Bundle) -> Tensor:
    """Logits of llama.cpp itself, with the base model's weights dequantised and its cache in float32.

    With quantised weights, llama.cpp quantises activations too: its logits of SmolLM2 in Q4_1 are off by 4 % of the
    largest, with an adapter or without, and that would hide a wrong scale.

    Raises:
        Refused: the base model was not read from a GGUF file, or llama.cpp does not load the adapter.
    """
    import torch

    from rank_search.export.gguf_file import FILE, write_dequantised

    if bundle.base.gguf is None:
        raise Refused("there is no GGUF file of the base model to run it on")
    with TemporaryDirectory() as temporary:
        dequantised = Path(temporary) / "base.gguf"
        write_dequantised(bundle.base.gguf, dequantised)
        model = _load(dequantised, bundle.folder / FILE)
        rows = []
        for ids, mask in zip(bundle.reference.ids, bundle.reference.mask, strict=True):
            model.reset()
            model.eval(ids[mask.bool()].tolist())
            rows.append(torch.tensor(model.scores[model.n_tokens - 1]))
        model.close()
    return torch.stack(rows).float()


def _load(base: Path, adapter: Path) -> Any:
    import llama_cpp

    try:
        return llama_cpp.Llama(
            str(base),
            lora_path=str(adapter),
            n_ctx=64,
            logits_all=True,
            verbose=False,
            type_k=llama_cpp.GGML_TYPE_F32,
            type_v=llama_cpp.GGML_TYPE_F32,
        )
    except (RuntimeError, ValueError) as error:  # for example, the base model has no such tensor
        raise Refused(" ".join(str(error).split())) from None


CONSUMER = Consumer(
    name="llama.cpp",
    position=80,
    readers=(
        Reader(
            label="llama.cpp",
            name="llama.cpp",
            package="llama-cpp-python",
            formats=_GGUF,
            auto_classes=CAUSAL_LMS | {"AutoModel"},
            certified=_GGUF,
            native=_GGUF,
            own_code=run,
            can_run=lambda base: base.gguf is not None,
            rules=rule,
            rules_version="llama-cpp-python 0.3.36",
            release="llama_cpp_python==0.3.36",
        ),
    ),
    serving_note=lambda _bundle: "llama.cpp: llama-server -m BASE.gguf --lora adapter.gguf",
)
