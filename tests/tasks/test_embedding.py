from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from rank_search.tasks.embedding import embed, encoder_inputs, ranking_loss, scale_notes, token_ids
from tests.embedders import small_retriever


def test_prompts_stand_before_the_texts_and_count_towards_the_limit() -> None:
    model = small_retriever()
    query = replace(model.query, prompt="query : ")
    decode = model.tokenizer.decode
    assert decode(token_ids(model, ["a b"], query)[0][0], skip_special_tokens=True) == "query : a b"
    assert decode(token_ids(model, ["a b"], model.document)[0][0], skip_special_tokens=True) == "a b"
    ids, truncated = token_ids(model, ["a b c d", "a"], query, limit=5)
    assert truncated == 1
    assert [len(text) for text in ids] == [5, 5]


def test_limit_is_never_above_the_models_own() -> None:
    model = small_retriever()
    ids, truncated = token_ids(model, ["word " * 100], model.document, limit=1000)
    assert (len(ids[0]), truncated) == (64, 1)


def test_texts_are_prepared_in_batches_and_keep_their_places(monkeypatch) -> None:
    monkeypatch.setattr("rank_search.tasks.embedding._PREPARED_TOGETHER", 2)
    model = small_retriever()
    texts = ["a long text with several words", "short", "word " * 100, "two words", ""]
    ids, truncated = token_ids(model, texts, model.query)
    assert ids == [token_ids(model, [text], model.query)[0][0] for text in texts]
    assert truncated == 1


def test_embeddings_are_those_of_one_text_at_a_time() -> None:
    model = small_retriever()
    ids, _ = token_ids(model, ["a long text with several words", "short", "two words"], model.query)
    vectors = embed(model, ids, model.query, batch_size=2)
    assert vectors.shape == (1, 3, 32)
    with torch.no_grad():
        for row, text in zip(vectors[0], ids, strict=True):
            single = model.encoder(encoder_inputs(model, [text]), model.query)[0]
            assert torch.allclose(row, functional.normalize(single, dim=0), atol=1e-5)


def test_vectors_of_a_model_that_compares_by_dot_product_keep_their_length() -> None:
    model = replace(small_retriever(), similarity="dot")
    ids, _ = token_ids(model, ["a text"], model.document)
    with torch.no_grad():
        expected = model.encoder(encoder_inputs(model, ids), model.document)
    assert torch.allclose(embed(model, ids, model.document, batch_size=2)[0], expected, atol=1e-6)
    assert not torch.allclose(expected.norm(), torch.tensor(1.0), atol=0.1)


def test_copies_of_an_encoder_without_adapters_are_equal() -> None:
    model = small_retriever()
    ids, _ = token_ids(model, ["one", "two words", "three words here"], model.query)
    copies = embed(model, ids, model.query, batch_size=4, copies=2)
    assert copies.shape == (2, 3, 32)
    assert torch.allclose(copies[0], copies[1], atol=1e-6)
    assert torch.allclose(copies[0], embed(model, ids, model.query, batch_size=4)[0], atol=1e-5)


def test_loss_is_cross_entropy_over_positives_and_negatives_but_not_other_positives() -> None:
    model = small_retriever()
    queries = encoder_inputs(model, token_ids(model, ["red", "blue"], model.query)[0])
    texts = ["a red one", "a blue one", "green", "also red"]
    documents = encoder_inputs(model, token_ids(model, texts, model.document)[0])
    other_positives = torch.tensor([[False, False, False, True], [False, False, False, False]])
    with torch.no_grad():
        loss = ranking_loss(model, queries, documents, other_positives, scale=20.0, copies=2)
        query_vectors = functional.normalize(model.encoder(queries, model.query))
        logits = 20 * query_vectors @ functional.normalize(model.encoder(documents, model.document)).T
    first = functional.cross_entropy(logits[:1, :3], torch.tensor([0]))
    second = functional.cross_entropy(logits[1:], torch.tensor([1]))
    assert loss.tolist() == pytest.approx([float(first + second) / 2] * 2, abs=1e-5)


def test_a_scale_that_is_made_for_cosines_is_told_for_dot_products() -> None:
    cosine = small_retriever()
    dot = replace(cosine, similarity="dot")
    assert scale_notes(cosine, 20.0) == scale_notes(dot, 1.0) == ()
    (note,) = scale_notes(dot, 20.0)
    assert note.endswith("task.similarity_scale 20 is made for cosine similarities; 1 is usual for dot products")
