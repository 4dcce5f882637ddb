import json

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    T5Config,
    T5EncoderModel,
)

from rank_search.config import ModelConfig
from rank_search.core.errors import InputError
from rank_search.models.load import embedder_class
from rank_search.models.source import locate
from rank_search.tasks.generation import GenerationTask
from rank_search.tasks.load import load_generator, load_skeleton, load_task
from rank_search.tasks.rag import RagTask
from tests.bench import EMBEDDED, study_config
from tests.tasks.conftest import generator

CPU = torch.device("cpu")


def config(source: str, **settings) -> ModelConfig:
    return ModelConfig(source=source, **settings)


def test_model_that_is_no_causal_lm_can_not_generate() -> None:
    study = study_config(task={"kind": "generation", "data": "x"}, model={"source": EMBEDDED})
    with pytest.raises(
        InputError, match=r"model\.source: .* lacks weights such as 'cls\.predictions.*name a causal LM"
    ):
        load_generator(study, CPU)


def test_errors_about_the_retriever_name_its_own_field() -> None:
    task = {"kind": "rag", "data": "x", "retriever": {"source": "./absent"}}
    with pytest.raises(InputError, match=r"task\.retriever\.source: './absent' is neither"):
        load_skeleton(study_config(task=task))


def test_masked_lm_can_not_generate(tmp_path) -> None:
    """Its checkpoint has a language-model head, so no weight is missing; it sees the tokens that it must predict."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    BertForMaskedLM(BertConfig(**sizes)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(locate(config(EMBEDDED)).path_or_id).save_pretrained(tmp_path)
    study = study_config(task={"kind": "generation", "data": "x"}, model={"source": str(tmp_path)})
    with pytest.raises(InputError, match="sees the tokens that it must predict, as masked LMs do; name a causal LM"):
        load_generator(study, CPU)


def test_classifier_whose_base_has_another_shape_is_refused(tmp_path) -> None:
    """A head for other classes is replaced; a base of another size is an error."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    BertForSequenceClassification(BertConfig(intermediate_size=48, num_labels=5, **sizes)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(locate(config(EMBEDDED)).path_or_id).save_pretrained(tmp_path)
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40)))
    task = {"kind": "classification", "data": str(tmp_path / "rows.csv")}
    study = study_config(task=task, model={"source": str(tmp_path)})
    assert load_task(study).head == ("classifier",)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "intermediate_size": 64}))
    with pytest.raises(InputError, match=r"lacks 6 weights .*, such as 'bert\.encoder\.layer\.0\.intermediate"):
        load_task(study)


@pytest.mark.parametrize(
    ("kind", "expected"), [("retrieval", "encoder.layer.0."), ("classification", "bert.encoder.layer.0.")]
)
def test_skeleton_has_the_modules_of_the_backbone_without_weights(kind, expected) -> None:
    task = {"kind": kind} if kind == "retrieval" else {"kind": kind, "data": "x"}
    model = load_skeleton(study_config(task=task))
    assert {weight.device.type for weight in model.parameters()} == {"meta"}
    assert any(name.startswith(expected) for name, _ in model.named_modules())


def test_skeleton_of_rag_has_both_models() -> None:
    task = {"kind": "rag", "data": "x", "retriever": {"source": EMBEDDED}}
    model = load_skeleton(study_config(task=task, model={"source": EMBEDDED}))
    assert list(dict(model.named_children())) == ["retriever", "generator"]


def test_of_t5_the_encoder_is_built_and_recorded(tmp_path) -> None:
    """It is what sentence-transformers trains."""
    T5Config(d_model=32, num_layers=1, num_heads=4, d_kv=8, d_ff=48, vocab_size=64).save_pretrained(tmp_path)
    model = load_skeleton(study_config(task={"kind": "retrieval"}, model={"source": str(tmp_path)}))
    assert type(model) is T5EncoderModel
    assert embedder_class(config(str(tmp_path))) == "AutoModelForTextEncoding"
    assert embedder_class(config(EMBEDDED)) == "AutoModel"


def causal_model(folder) -> str:
    model = generator()
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return str(folder)


def test_tasks_that_answer_are_loaded_from_their_files(tmp_path) -> None:
    source = causal_model(tmp_path / "causal")
    rows = [{"question": f"q {i}", "context": f"c {i}", "answers": str(i)} for i in range(40)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = str(tmp_path / "a.jsonl")
    training = {"batch_size": 4, "eval_batch_size": 4}
    task = {"kind": "generation", "data": data, "max_new_tokens": 4}
    generation = load_task(study_config(task=task, model={"source": source}, training=training))
    assert isinstance(generation, GenerationTask)
    assert generation.cut == {"passages": (0, 40), "prompts": (0, 40), "answers": (0, 40)}
    assert generation.size("validation") == 5
    both = {**task, "kind": "rag", "retriever": {"source": EMBEDDED}}
    rag = load_task(study_config(task=both, model={"source": source}, training=training))
    assert isinstance(rag, RagTask)
    assert [name for name, _ in rag.backbone.named_children()] == ["retriever", "generator"]
    assert rag.fingerprint != generation.fingerprint


def test_new_head_is_the_same_for_the_same_seed_and_leaves_the_global_generator_alone(tmp_path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"text {i},{'abc'[i % 3]}\n" for i in range(60)))
    task = {"kind": "classification", "data": str(tmp_path / "rows.csv")}
    torch.manual_seed(5)
    expected = torch.rand(3)
    heads = []
    for seed in (1, 1, 2):
        torch.manual_seed(5)
        loaded = load_task(study_config(task=task, model={"source": EMBEDDED}, seed=seed))
        assert torch.equal(torch.rand(3), expected)
        assert loaded.classes == ("a", "b", "c")
        heads.append(loaded.backbone.classifier.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
