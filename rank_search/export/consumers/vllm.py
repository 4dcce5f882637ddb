"""vLLM: up to 0.31 one scale for all modules, from 0.32 PEFT's patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.export.protocol import ADAPTER_FORMATS, ALL_MODELS, Consumer, Reader
from rank_search.export.updates import AppliedUpdates, NotServed, Refused

if TYPE_CHECKING:
    from rank_search.export.adapter_files import AdapterFiles
    from rank_search.export.protocol import Bundle, ServedBundle

# The values that --max-lora-rank can have (``MaxLoRARanks`` in ``vllm/config/lora.py``).
MAX_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Classes in ``vllm/model_executor/models/registry.py``, among those for texts, that are not ``SupportsLoRA`` and that
# are, of 0.31.0 and 0.33.0. Some models that are not in the registry run on transformers' own code; which of them take
# adapters, and under which names, is not known.
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

_SUPPORTED = _names(
    "AXK1ForCausalLM AfmoeForCausalLM ApertusForCausalLM BailingMoeForCausalLM BailingMoeV2ForCausalLM "
    "ChatGLMForConditionalGeneration ChatGLMModel Cohere2ForCausalLM CohereForCausalLM ColPaliForRetrieval "
    "DeciLMForCausalLM DeepseekForCausalLM DeepseekV2ForCausalLM DeepseekV3BidirectionalModel DeepseekV3ForCausalLM "
    "Ernie4_5ForCausalLM Ernie4_5_MoeForCausalLM Exaone4ForCausalLM ExaoneForCausalLM ExaoneMoeForCausalLM "
    "FalconH1ForCausalLM Gemma2ForCausalLM Gemma2Model Gemma3ForCausalLM Gemma4ForCausalLM GemmaForCausalLM "
    "Glm4ForCausalLM Glm4MoeForCausalLM Glm4MoeLiteForCausalLM GlmMoeDsaForCausalLM GptOssForCausalLM "
    "GraniteForCausalLM GraniteMoeForCausalLM GraniteMoeHybridForCausalLM GraniteMoeSWAForCausalLM "
    "GraniteMoeSharedForCausalLM GraniteSWAForCausalLM HYV3ForCausalLM HyperCLOVAXForCausalLM IQuestCoderForCausalLM "
    "InternLM2ForCausalLM InternLM3ForCausalLM JambaForCausalLM JambaForSequenceClassification JinaEmbeddingsV5Model "
    "JinaVLForRanking K2HorizonForCausalLM LLaMAForCausalLM LagunaForCausalLM Lfm2ForCausalLM Lfm2MoeForCausalLM "
    "Llama4ForCausalLM LlamaForCausalLM LlamaModel LlamaNemotronVLForSequenceClassification LlamaNemotronVLModel "
    "LlavaNextForConditionalGeneration LongcatFlashForCausalLM LongcatFlashNgramForCausalLM MiMoForCausalLM "
    "MiniCPM3ForCausalLM MiniCPMForCausalLM MiniMaxM2ForCausalLM Ministral3ForCausalLM MistralForCausalLM "
    "MistralLarge3ForCausalLM MistralModel MixtralForCausalLM ModernBertModel MuseGlimmerForCausalLM "
    "NemotronForCausalLM NemotronHForCausalLM NemotronHPuzzleForCausalLM OPTForCausalLM OlmoHybridForCausalLM "
    "OlmoeForCausalLM PanguEmbeddedForCausalLM PanguProMoEV2ForCausalLM PanguUltraMoEForCausalLM Param2MoEForCausalLM "
    "Phi3ForCausalLM PhiMoEForCausalLM Plamo3ForCausalLM Qwen2ForCausalLM Qwen2Model Qwen2MoeForCausalLM "
    "Qwen2VLForConditionalGeneration Qwen3ForCausalLM Qwen3MoeForCausalLM Qwen3NextForCausalLM Qwen3_5ForCausalLM "
    "Qwen3_5MoeForCausalLM Rnj1ForCausalLM RobertaForSequenceClassification SarvamMLAForCausalLM SarvamMoEForCausalLM "
    "SolarForCausalLM TeleChat2ForCausalLM TeleChat3ForCausalLM TeleFLMForCausalLM VoyageQwen3BidirectionalEmbedModel "
    "XLMRobertaForSequenceClassification"
)
SUPPORTED_TO_0_31 = _SUPPORTED | _names(
    "ArceeForCausalLM CwmForCausalLM GlmForCausalLM Jais2ForCausalLM MellumForCausalLM PhiForCausalLM "
    "SeedOssForCausalLM"
)
SUPPORTED_FROM_0_32 = _SUPPORTED | _names(
    "AliceAIForCausalLM BertForSequenceClassification BertModel BertSpladeSparseEmbeddingModel BgeM3EmbeddingModel "
    "ExaoneMoEForCausalLM RobertaForMaskedLM RobertaModel XLMRobertaModel"
)


def max_lora_rank(rank: int) -> int:
    """The smallest ``--max-lora-rank`` that takes a rank.

    Raises:
        NotServed: there is none.
    """
    for value in MAX_RANKS:
        if value >= rank:
            return value
    raise NotServed(f"takes ranks up to {MAX_RANKS[-1]}, and this has {rank}")


def rule_to_0_31(adapter: AdapterFiles) -> AppliedUpdates:
    """The rule up to 0.31.0: vLLM drops both patterns, and takes one global α/r or α/√r for all modules.

    Source: ``vllm/lora/peft_helper.py``, ``PEFTHelper.from_dict`` and ``__post_init__``; ``vllm/lora/lora_weights.py``,
    ``LoRALayerWeights.from_config``.
    """
    scale = adapter.scale(adapter.settings.r)
    check_served(adapter)
    return AppliedUpdates(adapter.scaled(lambda _name, _a: scale).updates, adapter.whole)


def rule_from_0_32(adapter: AdapterFiles) -> AppliedUpdates:
    """The rule from 0.32.0: rank and α by PEFT's matching, the rank as configured.

    Source: ``vllm/lora/peft_helper.py``, ``PEFTHelper.get_rank_and_scaling`` (read in 0.33.0).
    """
    updates = adapter.scaled(
        lambda name, _a: adapter.scale(adapter.rank_by_pattern(name), adapter.alpha_by_pattern(name))
    )
    check_served(adapter)
    return AppliedUpdates(updates.updates, adapter.whole)


def check_served(adapter: AdapterFiles) -> None:
    """Checks that vLLM takes what was trained, whichever format it is written in.

    Of modules that were trained whole it takes a ``classifier`` or ``score`` of one linear layer.

    Source: ``PEFTHelper._validate_features`` and ``vllm/lora/utils.py``, ``parse_fine_tuned_lora_name``.

    Raises:
        Refused: the adapter has DoRA or biases, which no export has.
        NotServed: it has other modules that were trained whole, or a rank above all that vLLM takes.
    """
    if adapter.settings.use_dora or adapter.settings.bias != "none":
        raise Refused("it takes no DoRA, and no adapter with biases")
    max_lora_rank(adapter.settings.top_rank)
    heads = adapter.settings.modules_to_save or []
    if set(heads) - {"classifier", "score"} or any(len(name.split(".")) != 2 for name in adapter.whole):
        layers = sorted({name.rpartition(".")[0] for name in adapter.whole})
        raise NotServed(f"takes no modules_to_save but a linear classifier or score, and this has {', '.join(layers)}")


def load_by_own_code(bundle: Bundle) -> AppliedUpdates:
    """Loads a bundle with vLLM's own configuration and adapter classes, which need no GPU."""
    from vllm.config.lora import LoRAConfig
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    check_served(bundle.adapter)
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
            supported=SUPPORTED_TO_0_31,
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
            supported=SUPPORTED_FROM_0_32,
            own_code=load_by_own_code,
            rules=lambda bundle: rule_from_0_32(bundle.adapter),
            rules_version="0.33.0",
            release="vllm==0.33.0",
        ),
    ),
    serving_note=serving_note,
)
