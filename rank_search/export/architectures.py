"""Base models that servers take no adapters for, by the class of transformers that they are.

Source: classes in ``vllm/model_executor/models/registry.py`` that are no ``SupportsLoRA``, of 0.31.0 and 0.33.0, among
those for texts; what is not in the registry runs on transformers' own code, which takes adapters.
"""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


VLLM = _names(
    "BailingMoeV2_5ForCausalLM BailingMoeV3ForCausalLM BertForMaskedLM BloomForCausalLM CLIPModel "
    "Cohere2MoeForCausalLM DbrxForCausalLM DeepseekV32ForCausalLM DeepseekV4ForCausalLM FalconForCausalLM "
    "FalconMambaForCausalLM GPT2ForSequenceClassification GPT2LMHeadModel GPTJForCausalLM Gemma3TextModel "
    "Gemma3nForCausalLM Glm5NextForCausalLM GteModel GteNewForSequenceClassification GteNewModel "
    "HCXVisionV2ForCausalLM HYV4ForCausalLM HrmTextForCausalLM IQuestLoopCoderForCausalLM InklingForCausalLM "
    "InklingForConditionalGeneration KimiLinearForCausalLM LlamaBidirectionalForSequenceClassification "
    "LlamaBidirectionalModel Mamba2ForCausalLM MambaForCausalLM MiMoV2FlashForCausalLM MiMoV2ForCausalLM "
    "MiniMaxM3SparseForCausalLM ModernBertForSequenceClassification NomicBertModel OrionForCausalLM "
    "Phi3VForCausalLM Qwen4ExpForCausalLM SiglipModel StableLmForCausalLM Step1ForCausalLM Step3TextForCausalLM "
    "Step3p5ForCausalLM Terratorch Zamba2ForCausalLM "
)
VLLM_TO_0_31 = VLLM | _names(
    "BertForSequenceClassification BertModel BertSpladeSparseEmbeddingModel BgeM3EmbeddingModel "
    "GPTNeoXForCausalLM RobertaForMaskedLM RobertaModel XLMRobertaModel "
)
VLLM_FROM_0_32 = VLLM | _names(
    "BeamForCausalLM D3ForSequenceClassification DomynEdgeForCausalLM DoryForCausalLM EmbeddingGemma2Model "
    "FlintForCausalLM Lfm2BidirectionalModel Step5ForCausalLM "
)
