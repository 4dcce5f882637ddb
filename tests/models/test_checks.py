"""What is said of models that can't be used."""

import shutil

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    LlavaConfig,
    MambaConfig,
    Qwen2VLConfig,
    T5Config,
)

from rank_search.config import ModelConfig
from rank_search.core.errors import InputError
from rank_search.models.load import load, skeleton
from rank_search.models.source import locate
from rank_search.tasks.load import load_task
from tests.bench import EMBEDDED, study_config

CPU = torch.device("cpu")
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}


def config(source) -> ModelConfig:
    return ModelConfig(source=str(source))


@pytest.mark.parametrize(
    ("settings", "auto_class", "kind"),
    [
        (LlavaConfig, AutoModelForCausalLM, "causal LM"),
        (Qwen2VLConfig, AutoModelForCausalLM, "causal LM"),
        (T5Config, AutoModelForCausalLM, "causal LM"),
        (MambaConfig, AutoModelForSequenceClassification, "text classifier"),
    ],
)
def test_a_type_without_a_class_for_the_task_is_named(tmp_path, settings, auto_class, kind) -> None:
    settings().save_pretrained(tmp_path)
    for read in (skeleton, lambda model, wanted: load(model, wanted, CPU)):
        with pytest.raises(
            InputError, match=rf"model of type .*{settings.model_type}.* no {kind} .* task.kind"
        ) as error:
            read(config(tmp_path), auto_class)
        assert "damaged" not in str(error.value)
        assert "\n" not in str(error.value)


@pytest.fixture
def model(tmp_path):
    """A folder with a small model and its tokenizer."""
    folder = tmp_path / "model"
    tokenizer = AutoTokenizer.from_pretrained(locate(config(EMBEDDED)).path_or_id)
    BertModel(BertConfig(vocab_size=len(tokenizer), **SIZES)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_weights_that_can_run_code_are_named(model) -> None:
    weights = model / "model.safetensors"
    torch.save({}, model / "pytorch_model.bin")
    load(config(model), AutoModel, CPU)  # the other file is enough
    weights.unlink()
    with pytest.raises(InputError, match=r"its weights in pytorch_model\.bin only, .* save_pretrained"):
        load(config(model), AutoModel, CPU)
    (model / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match=r"the folder holds no weights; add its model\.safetensors"):
        load(config(model), AutoModel, CPU)


def test_an_unknown_type_of_model_is_not_called_damaged(model) -> None:
    (model / "config.json").write_text('{"model_type": "from-the-future"}')
    with pytest.raises(InputError, match="install a version of transformers that knows it"):
        skeleton(config(model), AutoModel)


@pytest.mark.parametrize("kind", ["retrieval", "classification"])
def test_tokens_without_an_embedding_are_counted_at_load(model, tmp_path, kind) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["qubit", "qutrit"])
    tokenizer.save_pretrained(model)
    pairs = [f"find {i},text {i}" if kind == "retrieval" else f"text {i},{'ab'[i % 2]}" for i in range(40)]
    header = "query,document" if kind == "retrieval" else "text,label"
    (tmp_path / "rows.csv").write_text("\n".join([header, *pairs]) + "\n")
    task = {"kind": kind, "data": str(tmp_path / "rows.csv")}
    with pytest.raises(InputError, match=r"knows 2 tokens .* such as 'qubit' \(30522, of 30522 .*\.resize_token_emb"):
        load_task(study_config(task=task, model={"source": str(model)}))


def test_special_tokens_that_no_text_contains_need_no_embedding(model) -> None:
    """Gemma 3 of 1 billion has a token for images, and no embedding for it."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})
    tokenizer.save_pretrained(model)
    load(config(model), AutoModel, CPU)
    tokenizer.add_special_tokens({"pad_token": "<padding>"})  # this one stands in every batch
    tokenizer.save_pretrained(model)
    with pytest.raises(InputError, match=r"knows 1 tokens .* '<padding>'"):
        load(config(model), AutoModel, CPU)


def test_damaged_files_stay_damaged(model) -> None:
    shutil.copy(model / "config.json", model / "model.safetensors")
    with pytest.raises(InputError, match="its files are damaged"):
        load(config(model), AutoModel, CPU)
