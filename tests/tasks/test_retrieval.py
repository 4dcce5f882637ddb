import math

import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from rank_search.config import ModelConfig, RetrievalConfig, TrainingConfig
from rank_search.core.errors import InputError
from rank_search.data.searchable import SearchData, SearchSplit
from rank_search.models.retriever import load_retriever
from rank_search.tasks.retrieval import RetrievalTask, score_rankings
from tests.bench import EMBEDDED
from tests.small_models import words

CPU = torch.device("cpu")


@given(st.integers(1, 40), st.data())
def test_metrics_of_one_relevant_document_follow_from_its_rank(count, data) -> None:
    own = data.draw(st.integers(0, count - 1))
    scores = torch.tensor(data.draw(st.permutations(range(-20, count - 20)))).float()
    rank = 1 + int((scores > scores[own]).sum())
    expected = {
        "ndcg@10": 1 / math.log2(1 + rank) if rank <= 10 else 0,
        "mrr@10": 1 / rank if rank <= 10 else 0,
        "recall@1": float(rank <= 1),
        "recall@5": float(rank <= 5),
        "recall@10": float(rank <= 10),
    }
    found = {name: values[0] for name, values in score_rankings(scores[None], [{own: 1}]).items()}
    assert found == pytest.approx(expected)


@settings(max_examples=60)
@given(st.integers(1, 60), st.data())
def test_metrics_equal_an_independent_librarys(count, data) -> None:
    """trec_eval, on random rankings with several right documents of different gains."""
    scores = torch.tensor(data.draw(st.permutations(range(-20, count - 20)))).float()
    right = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=8, unique=True))
    gains = {document: data.draw(st.integers(1, 3)) for document in right}
    wanted = {"ndcg_cut.10", "recip_rank", "recall.1,5,10"}
    judged = pytrec_eval.RelevanceEvaluator({"q": {str(document): gain for document, gain in gains.items()}}, wanted)
    # trec_eval's reciprocal rank has no cut, so it is given the first ten alone.
    whole = {str(document): float(score) for document, score in enumerate(scores)}
    first = {str(document): float(scores[document]) for document in scores.topk(min(10, count)).indices.tolist()}
    of_all, of_ten = (judged.evaluate({"q": run})["q"] for run in (whole, first))
    expected = {
        "ndcg@10": of_all["ndcg_cut_10"],
        "mrr@10": of_ten["recip_rank"],
        "recall@1": of_all["recall_1"],
        "recall@5": of_all["recall_5"],
        "recall@10": of_all["recall_10"],
    }
    found = {name: values[0] for name, values in score_rankings(scores[None], [gains]).items()}
    assert found == pytest.approx(expected, abs=1e-5)


def test_ties_do_not_flatter_a_model_that_gives_every_text_the_same_vector() -> None:
    relevant = [{place: 1} for place in range(200)]
    values = score_rankings(torch.zeros(200, 200), relevant)
    assert sum(values["recall@10"]) == 10


def test_scores_that_are_not_finite_have_no_metric() -> None:
    """Sorting ranks NaNs all the same; a broken model must not get a score for it."""
    scores = torch.zeros(3, 4)
    scores[1, 2] = math.nan
    values = score_rankings(scores, [{0: 1}, {1: 1}, {2: 1}])
    assert all(math.isnan(value) for metric in values.values() for value in metric)


def token_lists(batches) -> list:
    return [(batch.queries["input_ids"].tolist(), batch.documents["input_ids"].tolist()) for batch in batches]


def test_batches_depend_on_the_seed_alone(small_task) -> None:
    one, same, other = (token_lists(small_task.training_batches(25, seed)) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_pass_over_the_data_repeats_no_pair(small_task) -> None:
    queries = [
        tuple(ids) for batch in small_task.training_batches(10, 0) for ids in batch.queries["input_ids"].tolist()
    ]
    assert len(queries) == len(set(queries)) == 40


def test_query_and_document_of_a_pair_stand_in_the_same_row(small_task) -> None:
    decode = small_task._retriever.tokenizer.decode
    for batch in small_task.training_batches(3, 0):
        for query, document in zip(batch.queries["input_ids"], batch.documents["input_ids"], strict=True):
            word = decode(query, skip_special_tokens=True).split()[2]
            assert decode(document, skip_special_tokens=True).startswith(f"def {word}")


def test_loss_is_the_cross_entropy_of_the_own_document(small_task) -> None:
    batch = next(iter(small_task.training_batches(1, 0)))
    retriever = small_task._retriever
    with torch.no_grad():
        queries = functional.normalize(retriever.encoder(batch.queries, retriever.query))
        documents = functional.normalize(retriever.encoder(batch.documents, retriever.document))
        expected = 0.0
        for i in range(4):
            scores = [20 * float(queries[i] @ documents[j]) for j in range(4)]
            expected -= (scores[i] - math.log(sum(math.exp(score) for score in scores))) / 4
        assert small_task.loss(batch).item() == pytest.approx(expected, abs=1e-4)


def test_evaluation_equals_ranking_one_text_at_a_time(small_task) -> None:
    (evaluation,) = small_task.evaluate("validation")
    pairs = words(20, 50)
    retriever = small_task._retriever

    def vector(text: str) -> torch.Tensor:
        tokens = retriever.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
            embedding = retriever.encoder(inputs, retriever.query)
        return functional.normalize(embedding[0], dim=0)

    documents = torch.stack([vector(document) for document in pairs.documents])
    for i, query in enumerate(pairs.queries):
        scores = documents @ vector(query)
        rank = 1 + int((scores > scores[i]).sum())
        assert evaluation.values["mrr@10"][i] == pytest.approx(1 / rank if rank <= 10 else 0)
        assert evaluation.outputs[i][0] == int(scores.argmax())
    values = evaluation.values["ndcg@10"]
    assert evaluation.score == pytest.approx(sum(values) / 20)
    assert evaluation.standard_error == pytest.approx(torch.tensor(values).std().item() / 20**0.5)


def test_examples_show_the_largest_gain_and_loss(small_task) -> None:
    (before,) = small_task.evaluate("test")
    swapped = type(before)(before.metric, {before.metric: list(reversed(before.values[before.metric]))}, before.outputs)
    gain, _, loss = small_task.examples("test", before, swapped)
    gains = [b - a for a, b in zip(before.values["ndcg@10"], swapped.values["ndcg@10"], strict=True)]
    assert gain.title == f"largest gain: ndcg@10 {max(gains):+.3f}"
    assert loss.title == f"largest loss: ndcg@10 {min(gains):+.3f}"
    own = f"def {gain.text.split()[2]}{gain.text.split()[3]}("
    assert all(shown.right == shown.text.startswith(own) for shown in gain.before.passages)
    assert len(gain.before.passages) == len(gain.after.passages) == 5


def test_batch_larger_than_the_data_is_refused(small_task) -> None:
    for size, problem in ((41, "41 is more than the 40 training examples"), (1, "1 leaves no other documents")):
        with pytest.raises(InputError, match=rf"training\.batch_size: {problem}"):
            RetrievalTask(
                RetrievalConfig(kind="retrieval"),
                TrainingConfig(batch_size=size),
                small_task._data,
                small_task._retriever,
            )


def test_other_right_documents_of_a_batch_are_no_wrong_answers() -> None:
    """Two pairs of one query in a batch: each is masked in the other's row, and the loss is that of the rest."""
    retriever = load_retriever(ModelConfig(source=EMBEDDED), CPU)
    train = SearchSplit(("find a", "find b"), ("a one", "a two", "b one"), ({0: 1, 1: 1}, {2: 1}))
    data = SearchData(train, words(4, 10), words(4, 20))
    task = RetrievalTask(RetrievalConfig(kind="retrieval"), TrainingConfig(batch_size=3), data, retriever)
    (batch,) = task.training_batches(1, 0)
    texts = [retriever.tokenizer.decode(ids, skip_special_tokens=True) for ids in batch.documents["input_ids"]]
    same = torch.tensor([[one[0] == other[0] and one != other for other in texts] for one in texts])
    assert torch.equal(batch.other_positives, same)
    with torch.no_grad():
        queries = functional.normalize(retriever.encoder(batch.queries, retriever.query))
        documents = functional.normalize(retriever.encoder(batch.documents, retriever.document))
        logits = 20 * queries @ documents.T
        expected = 0.0
        for row in range(3):
            seen = [float(logits[row, column]) for column in range(3) if not same[row, column]]
            expected -= (float(logits[row, row]) - math.log(sum(math.exp(score) for score in seen))) / 3
        assert task.loss(batch).item() == pytest.approx(expected, abs=1e-4)


def test_texts_are_cut_to_the_lengths_of_the_study_file() -> None:
    retriever = load_retriever(ModelConfig(source=EMBEDDED), CPU)
    data = SearchData(words(8, 0), words(4, 10), words(4, 20))
    settings = RetrievalConfig(kind="retrieval", query_length=4, document_length=6)
    task = RetrievalTask(settings, TrainingConfig(batch_size=4), data, retriever)
    batch = next(iter(task.training_batches(1, 0)))
    assert batch.queries["input_ids"].shape == (4, 4)
    assert batch.documents["input_ids"].shape == (4, 6)
    assert task.cut == {"queries": (16, 16), "documents": (16, 16)}
