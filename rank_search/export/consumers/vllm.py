"""vLLM: up to 0.31 one scale for all modules, from 0.32 PEFT's patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.export.protocol import ADAPTER_FORMATS, ALL_MODELS, Consumer, Reader
from rank_search.export.updates import AppliedUpdates, Refused

if TYPE_CHECKING:
    from rank_search.export.adapter_files import AdapterFiles
    from rank_search.export.protocol import Bundle, ServedBundle

# The values that --max-lora-rank can have (``MaxLoRARanks`` in ``vllm/config/lora.py``).
MAX_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Classes in ``vllm/model_executor/models/registry.py`` that are not ``SupportsLoRA``, among those for texts, of 0.31.0
# and 0.33.0. Models that are not in the registry run on transformers' own code, which takes adapters.
_UNSUPPORTED = _names(
    "BailingMoeV2_5ForCausalLM BailingMoeV3ForCausalLM BertForMaskedLM BloomForCausalLM CLIPModel "
    "Cohere2MoeForCausalLM DbrxForCausalLM DeepseekV32ForCausalLM DeepseekV4ForCausalLM FalconForCausalLM "
    "FalconMambaForCausalLM GPT2ForSequenceClassification GPT2LMHeadModel GPTJForCausalLM Gemma3TextModel "
    "Gemma3nForCausalLM Glm5NextForCausalLM GteModel GteNewForSequenceClassification GteNewModel "
    "HCXVisionV2ForCausalLM HYV4ForCausalLM HrmTextForCausalLM IQuestLoopCoderForCausalLM InklingForCausalLM "
    "InklingForConditionalGeneration KimiLinearForCausalLM LlamaBidirectionalForSequenceClassification "
    "LlamaBidirectionalModel Mamba2ForCausalLM MambaForCausalLM MiMoV2FlashForCausalLM MiMoV2ForCausalLM "
    "MiniMaxM3SparseForCausalLM ModernBertForSequenceClassification NomicBertModel OrionForCausalLM Phi3VForCausalLM "
    "Qwen4ExpForCausalLM SiglipModel StableLmForCausalLM Step1ForCausalLM Step3TextForCausalLM Step3p5ForCausalLM "
    "Terratorch Zamba2ForCausalLM"
)
UNSUPPORTED_TO_0_31 = _UNSUPPORTED | _names(
    "BertForSequenceClassification BertModel BertSpladeSparseEmbeddingModel BgeM3EmbeddingModel GPTNeoXForCausalLM "
    "RobertaForMaskedLM RobertaModel XLMRobertaModel"
)
UNSUPPORTED_FROM_0_32 = _UNSUPPORTED | _names(
    "BeamForCausalLM D3ForSequenceClassification DomynEdgeForCausalLM DoryForCausalLM EmbeddingGemma2Model "
    "FlintForCausalLM Lfm2BidirectionalModel Step5ForCausalLM"
)


def max_lora_rank(rank: int) -> int:
    """The smallest ``--max-lora-rank`` that takes a rank.

    Raises:
        Refused: there is none.
    """
    for value in MAX_RANKS:
        if value >= rank:
            return value
    raise Refused(f"it takes ranks up to {MAX_RANKS[-1]}")


def rule_to_0_31(adapter: AdapterFiles) -> AppliedUpdates:
    """The rule up to 0.31.0: vLLM drops both patterns, and takes one global α/r or α/√r for all modules.

    Source: ``vllm/lora/peft_helper.py``, ``PEFTHelper.from_dict`` and ``__post_init__``; ``vllm/lora/lora_weights.py``,
    ``LoRALayerWeights.from_config``.
    """
    scale = adapter.scale(adapter.settings.r)
    return _with_features_checked(adapter, adapter.scaled(lambda _name, _a: scale))


def rule_from_0_32(adapter: AdapterFiles) -> AppliedUpdates:
    """The rule from 0.32.0: rank and α by PEFT's matching, the rank as configured.

    Source: ``vllm/lora/peft_helper.py``, ``PEFTHelper.get_rank_and_scaling`` (read in 0.33.0).
    """
    updates = adapter.scaled(
        lambda name, _a: adapter.scale(adapter.rank_by_pattern(name), adapter.alpha_by_pattern(name))
    )
    return _with_features_checked(adapter, updates)


def _with_features_checked(adapter: AdapterFiles, applied: AppliedUpdates) -> AppliedUpdates:
    """Adds a whole ``classifier`` or ``score`` of one linear layer; vLLM refuses others, DoRA, and biases.

    Source: ``PEFTHelper._validate_features`` and ``vllm/lora/utils.py``, ``parse_fine_tuned_lora_name``.
    """
    if adapter.settings.use_dora or adapter.settings.bias != "none":
        raise Refused("it takes no DoRA, and no adapter with biases")
    max_lora_rank(adapter.settings.top_rank)
    heads = adapter.settings.modules_to_save or []
    if set(heads) - {"classifier", "score"} or any(len(name.split(".")) != 2 for name in adapter.whole):
        raise Refused(f"it takes no modules_to_save but a linear classifier or score, and finds {heads}")
    return AppliedUpdates(applied.updates, adapter.whole)


def load_by_own_code(bundle: Bundle) -> AppliedUpdates:
    """Loads a bundle with vLLM's own configuration and adapter classes, which need no GPU."""
    from vllm.config.lora import LoRAConfig
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    folder = str(bundle.folder)
    try:
        helper = PEFTHelper.from_local_dir(folder, max_position_embeddings=None)
        helper.validate_legal(LoRAConfig(max_lora_rank=max_lora_rank(bundle.adapter.settings.top_rank)))
        adapter = LoRAModel.from_local_checkpoint(
            folder,
            expected_lora_modules={name.rpartition(".")[2] for name, _ in bundle.base.model.named_modules()},
            peft_helper=helper,
            lora_model_id=1,
            device="cpu",
        )
    except ValueError as error:
        raise Refused(str(error)) from None
    updates = {}
    for name, weights in adapter.loras.items():
        weights.optimize()  # as the server does; it folds the scale into B
        updates[name] = (weights.lora_a, weights.lora_b, float(weights.scaling))
    replaced = {}
    for name, head in adapter.modules_to_save.items():
        replaced[f"{name}.weight"] = head.weight
        if head.bias is not None:
            replaced[f"{name}.bias"] = head.bias
    return AppliedUpdates(updates, replaced)


def serving_note(bundle: ServedBundle) -> str:
    """The flags to serve a bundle; embedders and classifiers need ``--runner pooling``."""
    name = "vLLM" if len(bundle.passed) == 2 else bundle.passed[0]
    runner = "" if bundle.auto_class == "AutoModelForCausalLM" else "--runner pooling "
    rank = max_lora_rank(bundle.top_rank)
    return f"{name}: {runner}--enable-lora --max-lora-rank {rank} --lora-modules NAME=DIR"


CONSUMER = Consumer(
    name="vLLM",
    position=40,
    readers=(
        Reader(
            label="vllm-0.31",
            name="vLLM ≤ 0.31",
            package="vllm",
            versions="<0.32.0",
            formats=ADAPTER_FORMATS,
            auto_classes=ALL_MODELS,
            certified=frozenset({"compact", "padded"}),
            unsupported=UNSUPPORTED_TO_0_31,
            own_code=load_by_own_code,
            rules=lambda bundle: rule_to_0_31(bundle.adapter),
            rules_version="0.31.0",
            release="vllm==0.31.0",
        ),
        Reader(
            label="vllm",
            name="vLLM ≥ 0.32",
            package="vllm",
            versions=">=0.32.0",
            formats=ADAPTER_FORMATS,
            auto_classes=ALL_MODELS,
            certified=ADAPTER_FORMATS,
            unsupported=UNSUPPORTED_FROM_0_32,
            own_code=load_by_own_code,
            rules=lambda bundle: rule_from_0_32(bundle.adapter),
            rules_version="0.33.0",
            release="vllm==0.33.0",
        ),
    ),
    serving_note=serving_note,
)
