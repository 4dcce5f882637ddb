from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from rank_search.tasks.embedding import document_ids, embed, encoder_inputs, query_ids, ranking_loss
from tests.tasks.conftest import retriever


def test_prompts_stand_before_the_texts_and_count_towards_the_limit() -> None:
    model = replace(retriever(), query_prompt="query : ", document_prompt="passage : ")
    decode = model.tokenizer.decode
    assert decode(query_ids(model, ["a b"])[0][0], skip_special_tokens=True) == "query : a b"
    assert decode(document_ids(model, ["a b"])[0][0], skip_special_tokens=True) == "passage : a b"
    ids, truncated = query_ids(model, ["a b c d", "a"], limit=5)
    assert truncated == 1
    assert [len(text) for text in ids] == [5, 5]


def test_limit_is_never_above_the_models_own() -> None:
    ids, truncated = document_ids(retriever(), ["word " * 100], limit=1000)
    assert (len(ids[0]), truncated) == (64, 1)


def test_embeddings_are_those_of_one_text_at_a_time() -> None:
    model = retriever()
    ids, _ = query_ids(model, ["a long text with several words", "short", "two words"])
    vectors = embed(model, ids, batch_size=2)
    assert vectors.shape == (1, 3, 32)
    with torch.no_grad():
        for row, text in zip(vectors[0], ids, strict=True):
            single = model.encoder(encoder_inputs(model, [text]))[0]
            assert torch.allclose(row, functional.normalize(single, dim=0), atol=1e-5)


def test_copies_of_an_encoder_without_adapters_are_equal() -> None:
    model = retriever()
    ids, _ = query_ids(model, ["one", "two words", "three words here"])
    copies = embed(model, ids, batch_size=4, copies=2)
    assert copies.shape == (2, 3, 32)
    assert torch.allclose(copies[0], copies[1], atol=1e-6)
    assert torch.allclose(copies[0], embed(model, ids, batch_size=4)[0], atol=1e-5)


def test_loss_is_cross_entropy_over_positives_and_negatives_but_not_other_positives() -> None:
    model = retriever()
    queries = encoder_inputs(model, query_ids(model, ["red", "blue"])[0])
    documents = encoder_inputs(model, document_ids(model, ["a red one", "a blue one", "green", "also red"])[0])
    other_positives = torch.tensor([[False, False, False, True], [False, False, False, False]])
    with torch.no_grad():
        loss = ranking_loss(model, queries, documents, other_positives, scale=20.0, copies=2)
        logits = 20 * functional.normalize(model.encoder(queries)) @ functional.normalize(model.encoder(documents)).T
    first = functional.cross_entropy(logits[:1, :3], torch.tensor([0]))
    second = functional.cross_entropy(logits[1:], torch.tensor([1]))
    assert loss.tolist() == pytest.approx([float(first + second) / 2] * 2, abs=1e-5)
