import dataclasses
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, pipeline

from rank_search.adapters import Adapter, known_warnings
from rank_search.config import ModelConfig
from rank_search.core.errors import InputError, RankSearchError
from rank_search.export import bundles, certificate
from rank_search.export.certificate import verify
from rank_search.export.formats import write_export
from rank_search.export.manifest import Manifest
from rank_search.export.protocol import BUNDLE_FORMATS
from rank_search.export.updates import Refused
from rank_search.models.source import fingerprint, locate
from tests.export.conftest import MODELS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("form", BUNDLE_FORMATS)
@pytest.mark.parametrize("kind", MODELS)
def test_bundle_is_read_right_by_those_it_is_for(exported_trial, tmp_path, kind, form) -> None:
    if form == "gguf" and kind not in {"retrieval", "generation"}:
        with pytest.raises(RankSearchError, match=r"gguf .* --to merged"):
            write_export(exported_trial(kind), form, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    write_export(exported_trial(kind), form, tmp_path / "out")
    findings = verify(tmp_path / "out", None)
    assert [finding.passed for finding in findings].count(False) == 0
    assert max(finding.difference for finding in findings if finding.passed) < 1e-5
    # vLLM serves BERT's adapters from 0.32, GPT-2's never, and of MPNet's nothing is known; SGLang and TGI know only
    # llama's names. Nobody but PEFT takes a head of two layers.
    bert = {"peft": 2, "compact": 2, "padded": 2}
    passing = {
        "retrieval": {"peft": 3, "compact": 3, "padded": 3, "merged": 2},  # sentence-transformers reads embedders
        "classification": bert,
        "generation": {"peft": 2, "compact": 4, "padded": 7},
        "mpnet": dict.fromkeys([*bert, "merged"], 2),
        "distilbert": dict.fromkeys(bert, 1),
        "gpt2": {"peft": 1, "compact": 2, "padded": 3},
    }
    assert sum(finding.passed is True for finding in findings) == passing[kind].get(form, 1)


def test_what_a_consumer_does_not_serve_is_said_beside_the_export(exported_trial, tmp_path) -> None:
    for kind, reason in (
        ("distilbert", "its source was not read for Distil"),
        ("mpnet", "its source was not read for MPNetModel"),
    ):
        lines = write_export(exported_trial(kind), "peft", tmp_path / kind)
        assert any(line.startswith("PEFT") and "computes the same" in line for line in lines)
        (vllm,) = (line for line in lines if line.startswith("vLLM"))
        assert f"not known: {reason}" in vllm
        assert reason in (tmp_path / kind / "README.md").read_text()


def test_refusal_prevents_only_what_is_the_consumers_own(exported_trial, tmp_path, monkeypatch) -> None:
    def refuse(_bundle):
        raise Refused("it is tired")

    for label, written in (("vllm", True), ("peft", False)):
        changed = tuple(
            replace(reader, own_code=refuse, rules=refuse) if reader.label == label else reader
            for reader in certificate.readers()
        )
        with monkeypatch.context() as patched:
            patched.setattr(certificate, "readers", lambda changed=changed: changed)
            if written:
                lines = write_export(exported_trial("generation"), "peft", tmp_path / label)
                assert any("FAILS, refuses it: it is tired" in line for line in lines)
            else:
                with pytest.raises(RankSearchError, match=r"PEFT .* refuses it: it is tired; nothing was written"):
                    write_export(exported_trial("generation"), "peft", tmp_path / label)
        assert (tmp_path / label).exists() == written


def test_bundle_that_fails_is_not_left_behind_unless_forced(exported_trial, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(bundles, "certified_labels", lambda _form, _auto_class: ("peft", "vllm-0.31"))
    with pytest.raises(RankSearchError, match=r"peft: vLLM ≤ 0.31 0.31.0 \(modelled\): FAILS.*nothing was written"):
        write_export(exported_trial("generation"), "peft", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write_export(exported_trial("generation"), "peft", tmp_path / "out", force=True)
    assert [finding.passed for finding in Manifest.read(tmp_path / "out").certificate] == [True, False]
    assert "fails its certificate" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("form", ["peft", "compact"])
def test_round_trip_through_plain_peft_keeps_map_and_tensors(bases, exported_trial, tmp_path, form) -> None:
    exported = exported_trial("generation")
    write_export(exported, form, tmp_path / "out")
    with known_warnings():
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases("generation")), tmp_path / "out")
    model.save_pretrained(tmp_path / "plain")
    shutil.rmtree(exported.folder.adapter(7))
    shutil.copytree(tmp_path / "plain", exported.folder.adapter(7))
    write_export(exported, form, tmp_path / "again")
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("out", "again"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    ranks = [{name: len(a) for name, (a, _) in Adapter.load(tmp_path / n).factors.items()} for n in ("out", "again")]
    assert ranks[0] == ranks[1] == exported.rank_map.adapted
    assert all(LoraConfig.from_pretrained(str(tmp_path / n)).rank_pattern for n in ("out", "again"))


def test_padded_adapter_has_every_module_at_one_rank(exported_trial, tmp_path) -> None:
    exported = exported_trial("generation", ranks=lambda found: {name: 3 if i else 0 for i, name in enumerate(found)})
    write_export(exported, "padded", tmp_path / "out")
    factors = Adapter.load(tmp_path / "out").factors
    assert factors.keys() == exported.rank_map.ranks.keys()
    assert {len(a) for a, _ in factors.values()} == {8}  # LoRAX and TGI would pad a rank of 3 to 8, and scale by that
    first, *others = exported.rank_map.ranks
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
def test_padded_adapter_is_served_whatever_the_study_has_adapted(exported_trial, tmp_path, adapted) -> None:
    """Servers stack kinds of modules over all layers, and Q with K and V: zeros stand in for those that have none."""
    exported = exported_trial("generation", ranks=lambda found: {name: 2 for name in found if adapted(name)})
    ranks = {name: rank for name, rank in exported.rank_map.ranks.items() if adapted(name)}
    exported = dataclasses.replace(exported, trial=dataclasses.replace(exported.trial, ranks=ranks))
    write_export(exported, "padded", tmp_path / "out")
    assert [finding.passed for finding in Manifest.read(tmp_path / "out").certificate] == [True] * 7
    factors = Adapter.load(tmp_path / "out").factors
    assert {name for name, (_, b) in factors.items() if b.any()} == ranks.keys()
    assert len(factors) > len(ranks)


def test_merged_embedder_is_loaded_by_sentence_transformers_with_its_pooling(bases, exported_trial, tmp_path) -> None:
    base = tmp_path / "embedder"
    modules = [Transformer(str(bases("retrieval"))), Pooling(32, pooling_mode="cls"), Normalize()]
    SentenceTransformer(modules=modules, prompts={"query": "q: "}).save(str(base), create_model_card=False)
    exported = exported_trial()
    config = {**exported.metadata.config, "model": {**exported.metadata.config["model"], "source": str(base)}}
    source = ModelConfig(source=str(base))
    metadata = dataclasses.replace(
        exported.metadata, config=config, model_fingerprint=fingerprint(locate(source), source)
    )
    exported = dataclasses.replace(exported, metadata=metadata)
    write_export(exported, "merged", tmp_path / "out")
    merged_model, adapted = (SentenceTransformer(str(place), device="cpu") for place in (tmp_path / "out", base))
    plain = adapted.encode(["a text", "another"])
    with known_warnings():
        adapted[0].model = PeftModel.from_pretrained(adapted[0].model, exported.folder.adapter(7))
    found = merged_model.encode(["a text", "another"])
    assert np.allclose(found, adapted.encode(["a text", "another"]), atol=1e-4)
    assert np.abs(found - plain).max() > 1e-2
    assert merged_model.prompts["query"] == "q: "
    # The model inside stays right, but the embedder no longer is.
    settings = tmp_path / "out" / "config_sentence_transformers.json"
    settings.write_text(settings.read_text().replace("q: ", "r: "))
    verdicts = {finding.label: finding.passed for finding in verify(tmp_path / "out", None)}
    assert verdicts == {"transformers": True, "sentence-transformers": False}


def test_merged_classifier_is_a_plain_model_with_names_of_its_classes(exported_trial, tmp_path) -> None:
    write_export(exported_trial("classification"), "merged", tmp_path / "out")
    answer = pipeline("text-classification", model=str(tmp_path / "out"))("Is it?")
    assert answer[0]["label"] in {"no", "perhaps", "yes"}
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert loaded.config.id2label == {0: "no", 1: "perhaps", 2: "yes"}


def test_merged_model_has_the_type_that_it_was_trained_on(exported_trial, tmp_path) -> None:
    """Rounded to half precision, it differs from the adapter by rounding, and the certificate says by how much."""
    write_export(exported_trial("retrieval", dtype="bfloat16"), "merged", tmp_path / "out")
    assert AutoModel.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    findings = Manifest.read(tmp_path / "out").certificate
    assert [finding.label for finding in findings] == ["transformers", "sentence-transformers"]
    assert all(1e-4 < finding.difference < 0.1 for finding in findings)


def test_study_of_a_base_model_that_has_changed_is_refused(bases, exported_trial, tmp_path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(bases("retrieval"), moved)
    exported = exported_trial()
    exported.metadata.config["model"]["source"] = str(moved)
    weights = load_file(moved / "model.safetensors")
    weights["embeddings.LayerNorm.weight"] += 0.1
    write_export(exported, "peft", tmp_path / "before")
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"model.source: .* has changed since the study started"):
        write_export(exported, "peft", tmp_path / "after")
    with pytest.raises(InputError, match=r"model.source: .* has changed: its weights were sha256"):
        verify(tmp_path / "before", None)


@pytest.mark.parametrize("damage", ["truncated", "no half", "missing"])
def test_damaged_adapter_is_refused(exported_trial, tmp_path, damage) -> None:
    exported = exported_trial()
    weights = exported.folder.adapter(7) / "adapter_model.safetensors"
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
            write_export(exported, form, tmp_path / "out")
    assert not (tmp_path / "out").exists()
