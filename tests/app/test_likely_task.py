import json

import pytest

from rank_search.app.likely_task import likely_task
from rank_search.config import ModelSource
from rank_search.core.errors import InputError

ANSWERED = ["question", "answer", "context"]


@pytest.fixture
def model(tmp_path):
    """Makes a model's folder from the name of its architecture and its type."""

    def make(architecture: str, kind: str, *files: str) -> ModelSource:
        settings = {"architectures": [architecture], "model_type": kind}
        (tmp_path / "config.json").write_text(json.dumps(settings))
        for file in files:
            (tmp_path / file).write_text("[]")
        return ModelSource(source=str(tmp_path))

    return make


@pytest.mark.parametrize(
    ("architecture", "kind", "columns", "task"),
    [
        ("LlamaForCausalLM", "llama", ANSWERED, "generation"),
        ("Gemma3ForConditionalGeneration", "gemma3", ANSWERED, "generation"),
        ("GPT2LMHeadModel", "gpt2", ["text", "label"], "classification"),
        ("BertModel", "bert", ANSWERED, "retrieval"),
        ("BertForMaskedLM", "bert", ["title", "text", "label"], "classification"),
        ("T5EncoderModel", "t5", ["query", "document"], "retrieval"),
        ("BertModel", "bert", ["query", "document", "label"], "retrieval"),
    ],
)
def test_model_and_columns_decide(model, architecture, kind, columns, task) -> None:
    assert likely_task(model(architecture, kind), None, None, columns)[0] == task


def test_sentence_embedder_is_one_whatever_its_transformer_was_made_for(model) -> None:
    embedder = model("Qwen3ForCausalLM", "qwen3", "modules.json")
    assert likely_task(embedder, None, None, ["query", "document"])[0] == "retrieval"
    assert likely_task(embedder, None, None, ANSWERED)[0] == "retrieval"
    assert likely_task(embedder, None, "generation", ANSWERED)[0] == "generation"


def test_encoder_decoder_is_not_drafted_as_a_retriever_of_answers(model) -> None:
    with pytest.raises(
        InputError, match=r"^--model: .* is an encoder-decoder, and a generation task, which the columns q"
    ):
        likely_task(model("T5ForConditionalGeneration", "t5"), None, None, ANSWERED)


def test_causal_lm_is_no_retriever_unless_the_user_says_so(model) -> None:
    causal = model("LlamaForCausalLM", "llama")
    with pytest.raises(
        InputError, match=r"the columns question, answer do not look like those of a generation or class"
    ):
        likely_task(causal, None, None, ["question", "answer"])
    assert likely_task(causal, None, "retrieval", ["question", "answer"])[0] == "retrieval"


def test_retriever_beside_the_model_makes_it_rag(model) -> None:
    found = likely_task(model("LlamaForCausalLM", "llama"), "an/embedder", None, ["Question", " answers", "context"])
    assert found == ("rag", {"question": "Question", "answers": " answers", "context": "context"})
