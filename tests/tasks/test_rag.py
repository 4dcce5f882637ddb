import pytest

from rank_search.adapters import Member, loaded, packed
from rank_search.config import AdapterConfig, StudyConfig
from rank_search.core.evaluation import Evaluation
from rank_search.core.ranks import RankMap
from rank_search.models.modules import build_space
from rank_search.tasks.rag import RagTask
from tests.bench import study_config
from tests.small_models import filled, train
from tests.tasks.conftest import ANSWERED

pytestmark = pytest.mark.training


def rag_config(**space) -> StudyConfig:
    task = {"kind": "rag", "data": "x", "retriever": {"source": "the/retriever"}}
    return study_config(task=task, model={"source": "the/generator"}, space={"ladder": [0, 1, 2], **space})


def test_both_models_have_their_own_dimensions_and_share_one_budget(rag) -> None:
    space = build_space(rag.backbone, rag_config(group_by="layer"))
    assert list(space.dimensions) == [
        *(f"retriever.encoder.layer.{i}" for i in range(2)),
        *(f"generator.model.layers.{i}" for i in range(2)),
    ]
    rank_map = space.rank_map(dict(zip(space.dimensions, (1, 0, 0, 2), strict=True)))
    retriever = build_space(rag.backbone["retriever"], rag_config())
    generator = build_space(rag.backbone["generator"], rag_config())
    expected = retriever.parameters(rank_map.under("retriever.")) + generator.parameters(rank_map.under("generator."))
    assert space.parameters(rank_map) == expected > 0


def test_batch_holds_own_passages_first_and_no_right_one_among_the_others(rag) -> None:
    decode = rag._retriever.tokenizer.decode
    for batch in rag.training_batches(6, 0):
        queries = [decode(ids, skip_special_tokens=True) for ids in batch.queries["input_ids"]]
        documents = [decode(ids, skip_special_tokens=True) for ids in batch.documents["input_ids"]]
        for row, query in enumerate(queries):
            word = query.removeprefix("what is ").rstrip("?")
            assert documents[row].startswith(word)
            also_right = [i for i, text in enumerate(documents) if text.startswith(f"{word} is") and i != row]
            assert batch.other_positives[row].nonzero().flatten().tolist() == also_right
            assert documents[row] in decode(batch.answers.inputs["input_ids"][row], skip_special_tokens=True)
        assert len(documents) > len(queries)


def losses_under(rag: RagTask, rank_map: RankMap) -> dict[str, float]:
    """Largest gradient in each model's adapters, from the one loss."""
    batch = next(iter(rag.training_batches(1, 0)))
    with packed(rag.backbone, [Member(rank_map, AdapterConfig(), seed=0)]) as pack:
        filled(pack, std=0.1)
        rag.loss(batch).backward()
        gradients = {name: float(module.A.grad.abs().max()) for name, module in pack._modules.items()}
    prefixes = {f"{name.partition('.')[0]}." for name in gradients}
    return {
        prefix: max(gradient for name, gradient in gradients.items() if name.startswith(prefix)) for prefix in prefixes
    }


def test_one_loss_teaches_both_models(rag) -> None:
    space = build_space(rag.backbone, rag_config())
    both = losses_under(rag, space.uniform(2))
    assert both.keys() == {"retriever.", "generator."}
    assert all(gradient > 0 for gradient in both.values())
    ranks = {name: 2 * name.startswith("generator.") for name in space.shapes}
    assert losses_under(rag, RankMap(ranks)).keys() == {"generator."}


def test_score_is_of_answers_from_what_the_adapted_retriever_finds(rag) -> None:
    space = build_space(rag.backbone, rag_config())
    (before,) = rag.evaluate("test")
    assert before.values.keys() == {"f1", "exact-match", "recall@3"}
    ranks = {name: 2 * name.startswith("retriever.") for name in space.shapes}
    maps = [RankMap(ranks), RankMap(dict.fromkeys(ranks, 0))]
    with packed(rag.backbone, [Member(rank_map, AdapterConfig(), seed=0) for rank_map in maps]) as pack:
        filled(pack)
        moved, beside_it = rag.evaluate("test", copies=2)
    assert beside_it.outputs == before.outputs  # each map answers from what its own retriever finds
    assert [places for places, _ in moved.outputs] != [places for places, _ in before.outputs]
    assert rag.evaluate("test") == [before]


def test_each_adapter_is_saved_by_itself_and_found_again(rag, tmp_path) -> None:
    from peft import PeftModel

    space = build_space(rag.backbone, rag_config())
    sources = {prefix: model.source for prefix, model in rag_config().base_models.items()}
    with packed(rag.backbone, [Member(space.uniform(2), AdapterConfig(), seed=0)]) as pack:
        filled(pack, std=0.3)
        (trained,) = rag.evaluate("test")
        pack.adapters(0, sources).save(tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["generator", "retriever"]
    with loaded(rag.backbone, tmp_path / "a"):
        assert rag.evaluate("test")[0].outputs == trained.outputs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)  # transformers' own deprecations
        plain = PeftModel.from_pretrained(rag.backbone["generator"], tmp_path / "a" / "generator")
    assert plain.peft_config["default"].base_model_name_or_path == "the/generator"
    plain.unload()


def test_training_lowers_the_loss_of_both(rag) -> None:
    space = build_space(rag.backbone, rag_config())
    modules = [type(module) for module in rag.backbone.modules()]
    result = train(rag, space.uniform(2), steps=40)
    assert sum(result.losses[-5:]) < 0.9 * sum(result.losses[:5])
    assert [type(module) for module in rag.backbone.modules()] == modules


def test_examples_show_passages_and_answers(rag) -> None:
    (before,) = rag.evaluate("test")
    corpus = rag._corpus
    right = [([corpus.index(example.passage), 0], example.answers[1]) for example in ANSWERED.test]
    after = Evaluation("f1", {"f1": [1.0] * 7}, right)
    for example in rag.examples("test", before, after):
        assert [shown.right for shown in example.after.passages] == [True, False]
        assert example.after.answer.right
        assert len(example.before.passages) == 3
