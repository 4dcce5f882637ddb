import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from huggingface_hub import ModelCard
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, pipeline

from rank_search.adapters import Adapter, known_warnings
from rank_search.config import ModelConfig
from rank_search.core.errors import InputError, RankSearchError
from rank_search.export import bundles, gguf_file
from rank_search.export.certificate import BUNDLE_CONSUMERS, verify
from rank_search.export.formats import write_export
from rank_search.export.manifest import FILE, Manifest
from rank_search.export.probe import merged
from rank_search.models.source import fingerprint, locate

KINDS = ("retrieval", "generation", "classification", "gpt2")
SCALES = ("rslora", "alpha/r", "constant")


def failed(folder, names=None) -> set[str]:
    """Names and versions of those that compute something else."""
    return {f"{of.consumer} {of.version}" for of in verify(folder, names) if of.passed is False}


def rewrite(path, **changes) -> None:
    """Changes fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("form", BUNDLE_CONSUMERS)
@pytest.mark.parametrize("kind", KINDS)
def test_bundle_is_read_right_by_those_it_is_for(chosen, tmp_path, kind, form) -> None:
    if form == "gguf" and kind in {"classification", "gpt2"}:
        with pytest.raises(RankSearchError, match=r"gguf .* --to merged"):
            write_export(chosen(kind), form, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    write_export(chosen(kind), form, tmp_path / "out")
    findings = verify(tmp_path / "out", None)
    assert [of.passed for of in findings].count(False) == 0
    assert max(of.difference for of in findings if of.passed) < 1e-5
    # vLLM serves BERT's adapters from 0.32, and GPT-2's never; SGLang and TGI know llama's names alone.
    bert = {"peft": 2, "compact": 2, "padded": 2}
    passing = {
        "retrieval": bert,
        "classification": bert,
        "generation": {"peft": 2, "compact": 4, "padded": 7},
        "gpt2": {"peft": 1, "compact": 2, "padded": 3},
    }
    assert sum(of.passed is True for of in findings) == passing[kind].get(form, 1)


@pytest.mark.parametrize("scale", SCALES)
def test_scale_is_folded_whatever_its_rule(chosen, tmp_path, scale) -> None:
    """An adapter as trained is read wrong by half of all servers; folded, by none, whatever the rule of its scale."""
    choice = chosen("generation", scale=scale, alpha=3.0)
    write_export(choice, "peft", tmp_path / "peft")
    # A scale that is the same at every rank is one global scale, too.
    assert ("vLLM ≤ 0.31 0.31.0" in failed(tmp_path / "peft", [])) == (scale != "constant")
    for form in ("compact", "padded", "gguf"):
        write_export(choice, form, tmp_path / form)
        config = tmp_path / form / "adapter_config.json"
        if config.exists():
            written = json.loads(config.read_text())
            assert written["lora_alpha"] == written["r"]
            assert written["alpha_pattern"] == written["rank_pattern"]
            assert not written["use_rslora"]
        assert failed(tmp_path / form) == set()


def test_consumers_that_a_format_is_not_for_are_told_apart(chosen, tmp_path) -> None:
    """By the servers' sources, SGLang wants equal ranks, LoRAX and TGI a kind of module in all layers or none."""
    write_export(chosen("generation"), "compact", tmp_path / "out")
    assert failed(tmp_path / "out", []) == {"SGLang 0.5.23", "LoRAX 03679f3", "TGI 45d95bd"}
    findings = {of.consumer: of for of in verify(tmp_path / "out", [])}
    assert re.search("refuses it: it loads tensors of rank r = 8 alone", findings["SGLang"].note)


WRONG = {
    "peft": ({"lora_alpha": 8.0}, "PEFT"),
    "compact": ({"lora_alpha": 16}, "vLLM ≤ 0.31 0.31.0"),
    "padded": ({"lora_alpha": 16}, "LoRAX"),
}


@pytest.mark.parametrize("form", WRONG)
def test_wrong_alpha_of_an_adapter_fails(chosen, tmp_path, form) -> None:
    write_export(chosen("generation"), form, tmp_path / "out")
    change, hurt = WRONG[form]
    rewrite(tmp_path / "out" / "adapter_config.json", **change)
    assert any(name.startswith(hurt) for name in failed(tmp_path / "out"))


def test_wrong_alpha_pattern_of_a_compact_adapter_fails_for_those_who_read_it(chosen, tmp_path) -> None:
    write_export(chosen("generation"), "compact", tmp_path / "out")
    config = tmp_path / "out" / "adapter_config.json"
    ranks = json.loads(config.read_text())["rank_pattern"]
    rewrite(config, alpha_pattern={name: 2 * rank for name, rank in ranks.items()})
    assert {name.split()[0] for name in failed(tmp_path / "out")} == {"PEFT", "axolotl", "vLLM"}
    assert "vLLM ≤ 0.31 0.31.0" not in failed(tmp_path / "out")  # it reads no pattern


def test_wrong_alpha_of_a_gguf_adapter_fails(chosen, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(gguf_file, "_UNSCALED", 8.0)  # as PEFT's own α would be
    with pytest.raises(RankSearchError, match=r"llama.cpp .* FAILS"):
        write_export(chosen("generation"), "gguf", tmp_path / "out")
    write_export(chosen("generation"), "gguf", tmp_path / "out", force=True)
    assert failed(tmp_path / "out")


def test_wrong_alpha_of_a_merged_model_fails(chosen, tmp_path, monkeypatch) -> None:
    def doubled(base, adapter):
        config = adapter / "adapter_config.json"
        before = config.read_text()
        rewrite(config, lora_alpha=8.0)
        try:
            return merged(base, adapter)
        finally:
            config.write_text(before)

    monkeypatch.setattr(bundles, "merged", doubled)
    with pytest.raises(RankSearchError, match=r"transformers .* FAILS"):
        write_export(chosen("generation"), "merged", tmp_path / "out")
    write_export(chosen("generation"), "merged", tmp_path / "out", force=True)
    assert failed(tmp_path / "out")


def test_bundle_that_fails_is_not_left_behind_unless_forced(chosen, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(BUNDLE_CONSUMERS, "peft", ("peft", "vllm-0.31"))
    with pytest.raises(RankSearchError, match=r"peft: vLLM ≤ 0.31 0.31.0 \(modelled\): FAILS.*nothing was written"):
        write_export(chosen("generation"), "peft", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write_export(chosen("generation"), "peft", tmp_path / "out", force=True)
    assert [of.passed for of in Manifest.read(tmp_path / "out").certificate] == [True, False]
    assert "fails its certificate" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("form", ["peft", "compact"])
def test_round_trip_through_plain_peft_keeps_map_and_tensors(bases, chosen, tmp_path, form) -> None:
    choice = chosen("generation")
    write_export(choice, form, tmp_path / "out")
    with known_warnings():
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases("generation")), tmp_path / "out")
    model.save_pretrained(tmp_path / "plain")
    shutil.rmtree(choice.folder.adapter(7))
    shutil.copytree(tmp_path / "plain", choice.folder.adapter(7))
    write_export(choice, form, tmp_path / "again")
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("out", "again"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    ranks = [{name: len(a) for name, (a, _) in Adapter.load(tmp_path / n).factors.items()} for n in ("out", "again")]
    assert ranks[0] == ranks[1] == choice.rank_map.adapted
    assert all(LoraConfig.from_pretrained(str(tmp_path / n)).rank_pattern for n in ("out", "again"))


def test_padded_adapter_has_every_module_at_one_rank(chosen, tmp_path) -> None:
    choice = chosen("generation", ranks=lambda found: {name: 3 if i else 0 for i, name in enumerate(found)})
    write_export(choice, "padded", tmp_path / "out")
    factors = Adapter.load(tmp_path / "out").factors
    assert factors.keys() == choice.rank_map.ranks.keys()
    assert {len(a) for a, _ in factors.values()} == {8}  # LoRAX and TGI would pad a rank of 3 to 8, and scale by that
    first, *others = choice.rank_map.ranks
    assert not factors[first][0].any()
    assert all((b != 0).any(0).sum() == 3 for _, b in (factors[name] for name in others))


@pytest.mark.parametrize(
    "adapted",
    [
        lambda name: name.endswith("q_proj"),
        lambda name: name.endswith(("k_proj", "o_proj", "up_proj")),
        lambda name: ".layers.1." in name,
    ],
)
def test_padded_adapter_is_served_whatever_the_study_has_adapted(chosen, tmp_path, adapted) -> None:
    """Servers stack kinds of modules over all layers, and Q with K and V: zeros stand in for those that have none."""
    choice = chosen("generation", ranks=lambda found: {name: 2 for name in found if adapted(name)})
    ranks = {name: rank for name, rank in choice.rank_map.ranks.items() if adapted(name)}
    choice = dataclasses.replace(choice, trial=dataclasses.replace(choice.trial, ranks=ranks))
    write_export(choice, "padded", tmp_path / "out")
    assert [of.passed for of in Manifest.read(tmp_path / "out").certificate] == [True] * 7
    factors = Adapter.load(tmp_path / "out").factors
    assert {name for name, (_, b) in factors.items() if b.any()} == ranks.keys()
    assert len(factors) > len(ranks)


def test_merged_embedder_is_loaded_by_sentence_transformers_with_its_pooling(bases, chosen, tmp_path) -> None:
    base = tmp_path / "embedder"
    modules = [Transformer(str(bases("retrieval"))), Pooling(32, pooling_mode="cls"), Normalize()]
    SentenceTransformer(modules=modules, prompts={"query": "q: "}).save(str(base), create_model_card=False)
    choice = chosen()
    config = {**choice.record.config, "model": {**choice.record.config["model"], "source": str(base)}}
    source = ModelConfig(source=str(base))
    record = dataclasses.replace(choice.record, config=config, model_fingerprint=fingerprint(locate(source), source))
    choice = dataclasses.replace(choice, record=record)
    write_export(choice, "merged", tmp_path / "out")
    merged_model, adapted = (SentenceTransformer(str(place), device="cpu") for place in (tmp_path / "out", base))
    plain = adapted.encode(["a text", "another"])
    with known_warnings():
        adapted[0].model = PeftModel.from_pretrained(adapted[0].model, choice.folder.adapter(7))
    found = merged_model.encode(["a text", "another"])
    assert np.allclose(found, adapted.encode(["a text", "another"]), atol=1e-4)
    assert np.abs(found - plain).max() > 1e-2
    assert merged_model.prompts["query"] == "q: "


def test_merged_classifier_is_a_plain_model_with_names_of_its_classes(chosen, tmp_path) -> None:
    write_export(chosen("classification"), "merged", tmp_path / "out")
    answer = pipeline("text-classification", model=str(tmp_path / "out"))("Is it?")
    assert answer[0]["label"] in {"no", "perhaps", "yes"}
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert loaded.config.id2label == {0: "no", 1: "perhaps", 2: "yes"}


def test_merged_model_has_the_type_that_it_was_trained_on(chosen, tmp_path) -> None:
    """Rounded to half precision, it differs from the adapter by what rounding takes away, which is told."""
    write_export(chosen("retrieval", dtype="bfloat16"), "merged", tmp_path / "out")
    assert AutoModel.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    (finding,) = Manifest.read(tmp_path / "out").certificate
    assert 1e-4 < finding.difference < 0.1


def test_card_has_metadata_that_the_hub_takes(chosen, tmp_path) -> None:
    choice = chosen("generation")
    write_export(choice, "compact", tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.library_name == "peft"
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.base_model is None  # a folder is no id of the hub
    for word in ("study small, trial 7", "0.5000 ± 0.1000", f"{choice.trial.trainable_parameters:,}", "peft 0."):
        assert word in card.text
    assert "| vLLM ≤ 0.31 | 0.31.0 | modelled |" in card.text


def test_study_of_a_base_model_that_has_changed_is_refused(bases, chosen, tmp_path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(bases("retrieval"), moved)
    choice = chosen()
    choice.record.config["model"]["source"] = str(moved)
    weights = load_file(moved / "model.safetensors")
    weights["embeddings.LayerNorm.weight"] += 0.1
    write_export(choice, "peft", tmp_path / "before")
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"model.source: .* has changed since the study was begun"):
        write_export(choice, "peft", tmp_path / "after")
    with pytest.raises(InputError, match=r"model.source: .* has changed: its weights were sha256"):
        verify(tmp_path / "before", None)


@pytest.mark.parametrize("damage", ["truncated", "no half", "missing"])
def test_damaged_adapter_is_refused(chosen, tmp_path, damage) -> None:
    choice = chosen()
    weights = choice.folder.adapter(7) / "adapter_model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "no half":
        tensors = load_file(weights)
        del tensors[next(name for name in tensors if "lora_B" in name)]
        save_file(tensors, weights)
    else:
        weights.unlink()
    for form in ("peft", "compact"):
        with pytest.raises(InputError, match=r"adapter_model.safetensors: .* restore"):
            write_export(choice, form, tmp_path / "out")
    assert not (tmp_path / "out").exists()


DAMAGES = {
    "r": 0,
    "lora_alpha": None,
    "rank_pattern": [1],
    "alpha_pattern": {"(": 1},
    "modules_to_save": "classifier",
    "target_modules": 1,
}


@pytest.mark.parametrize("field", [*DAMAGES, "all", "none"])
def test_damaged_configuration_of_a_bundle_is_told_in_a_line(chosen, tmp_path, field) -> None:
    write_export(chosen("generation"), "compact", tmp_path / "out")
    config = tmp_path / "out" / "adapter_config.json"
    if field == "none":
        config.unlink()
    elif field == "all":
        config.write_text("[]")
    else:
        rewrite(config, **{field: DAMAGES[field]})
    with pytest.raises(InputError, match=r"adapter_config.json: .*export anew") as error:
        verify(tmp_path / "out", None)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("form", "file", "change"),
    [
        ("compact", "adapter_config.json", {"target_modules": ["nope"]}),
        ("compact", "adapter_config.json", {"rank_pattern": {}}),
        ("merged", "config.json", {"hidden_size": 64}),
        ("merged", "config.json", {"num_hidden_layers": "three"}),
    ],
)
def test_what_a_consumer_raises_is_a_failure_that_hurts_no_other(chosen, tmp_path, form, file, change) -> None:
    write_export(chosen("generation"), form, tmp_path / "out")
    rewrite(tmp_path / "out" / file, **change)
    findings = {of.label: of for of in verify(tmp_path / "out", None)}
    first = findings["peft" if form == "compact" else "transformers"]
    assert first.passed is False
    if form == "compact":  # what reads each tensor's own rank, or one global scale, is right all the same
        assert findings["vllm-0.31"].passed is True


def test_measure_of_a_certificate_is_not_to_be_edited(chosen, tmp_path) -> None:
    write_export(chosen(), "compact", tmp_path / "out")
    reference = tmp_path / "out" / "certificate" / "reference.safetensors"
    tensors = load_file(reference)
    save_file({**tensors, "base": 1000 * tensors["base"]}, reference)
    with pytest.raises(InputError, match=r"certificate/reference.safetensors: is not what was exported"):
        verify(tmp_path / "out", None)


def test_strange_weights_in_a_bundle_are_refused(chosen, tmp_path) -> None:
    write_export(chosen(), "merged", tmp_path / "out")
    save_file({"x": torch.zeros(1)}, tmp_path / "out" / "model-00002-of-00002.safetensors")
    with pytest.raises(InputError, match=r"model-00002-of-00002.safetensors: is no part of what was exported"):
        verify(tmp_path / "out", None)


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "certificate/reference.safetensors", FILE])
def test_truncated_bundle_is_refused(chosen, tmp_path, file) -> None:
    write_export(chosen(), "compact", tmp_path / "out")
    path = tmp_path / "out" / file
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=f"{re.escape(file)}: "):
        verify(tmp_path / "out", None)


def test_edited_weights_of_a_bundle_are_refused(chosen, tmp_path) -> None:
    write_export(chosen(), "compact", tmp_path / "out")
    edit(tmp_path / "out" / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"adapter_model.safetensors: is not what was exported"):
        verify(tmp_path / "out", None)


def test_edited_adapter_of_a_study_is_refused(chosen, tmp_path) -> None:
    choice = chosen()
    choice.folder.write_result(7, {"adapter": choice.folder.adapter_digests(7)})
    write_export(choice, "peft", tmp_path / "before")
    edit(choice.folder.adapter(7) / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"0007/adapter_model.safetensors: is not what was trained"):
        write_export(choice, "peft", tmp_path / "after")


def edit(weights) -> None:
    """Changes one tensor of a file by a little."""
    tensors = load_file(weights)
    name = next(name for name in tensors if "lora_B" in name)
    save_file({**tensors, name: tensors[name] + 1e-4}, weights, metadata={"format": "pt"})


def test_adapter_that_changes_nothing_can_not_be_certified(chosen, tmp_path) -> None:
    choice = chosen()
    weights = choice.folder.adapter(7) / "adapter_model.safetensors"
    tensors = {name: torch.zeros_like(of) if "lora_B" in name else of for name, of in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(RankSearchError, match="nothing can be certified"):
        write_export(choice, "peft", tmp_path / "out")


def test_gguf_has_no_place_for_a_head_that_is_tied_to_the_embeddings(tmp_path) -> None:
    """llama.cpp 0.3.36 (Python) reads such an adapter, and dies of it."""
    settings = {"num_hidden_layers": 1, "tie_word_embeddings": True}
    with pytest.raises(RankSearchError, match="'lm_head' where it is tied to the embeddings"):
        gguf_file.write_gguf(tmp_path / "a", {"lm_head": (torch.zeros(1, 4), torch.zeros(9, 1))}, "llama", settings)
    assert not (tmp_path / "a").exists()


def test_wrong_order_of_rows_in_a_gguf_adapter_fails(chosen, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(gguf_file, "_row_order", lambda _name, _type, _settings, rows: torch.arange(rows))
    with pytest.raises(RankSearchError, match=r"llama.cpp .* FAILS"):
        write_export(chosen("generation"), "gguf", tmp_path / "out")


def test_gguf_names_and_rows_are_llama_cpps(bases, chosen, tmp_path) -> None:
    """Rows of Q and K stand as in its converter's ``permute``, here written out by hand for one head of 8 rows."""
    choice = chosen("generation")
    write_export(choice, "gguf", tmp_path / "out")
    write_export(choice, "compact", tmp_path / "compact")
    tensors = {of.name: np.array(of.data) for of in GGUFReader(tmp_path / "out" / "adapter.gguf").tensors}
    factors = Adapter.load(tmp_path / "compact").factors
    a, b = factors["model.layers.0.self_attn.q_proj"]
    assert np.array_equal(tensors["blk.0.attn_q.weight.lora_a"], a)
    assert np.array_equal(tensors["blk.0.attn_q.weight.lora_b"][:8], b[[0, 4, 1, 5, 2, 6, 3, 7]])
    assert np.array_equal(tensors["blk.2.ffn_down.weight.lora_b"], factors["model.layers.2.mlp.down_proj"][1])
    assert not any(name.startswith("blk.1.") for name in tensors)  # the layer of rank 0
