import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from rank_search.core.errors import InputError, RankSearchError
from rank_search.export import bundles
from rank_search.export.certificate import verify
from rank_search.export.formats import write_export
from rank_search.export.probe import merged
from tests.export.helpers import failed, rewrite

pytestmark = pytest.mark.slow

SCALES = ("rslora", "alpha/r", "constant")


@pytest.mark.parametrize("scale", SCALES)
def test_scale_is_folded_whatever_its_rule(exported_trial, tmp_path, scale) -> None:
    """An adapter as trained is read wrong by half of all servers; folded, by none, whatever the rule of its scale."""
    exported = exported_trial("generation", scale=scale, alpha=3.0)
    write_export(exported, "peft", tmp_path / "peft")
    # A scale that is the same at every rank is one global scale, too.
    assert ("vLLM ≤ 0.31 0.31.0" in failed(tmp_path / "peft", [])) == (scale != "constant")
    for form in ("compact", "padded", "gguf"):
        write_export(exported, form, tmp_path / form)
        config = tmp_path / form / "adapter_config.json"
        if config.exists():
            written = json.loads(config.read_text())
            assert written["lora_alpha"] == written["r"]
            assert written["alpha_pattern"] == written["rank_pattern"]
            assert not written["use_rslora"]
        assert failed(tmp_path / form) == set()


def test_consumers_that_a_format_is_not_for_fail(exported_trial, tmp_path) -> None:
    """By the servers' sources, SGLang wants equal ranks, LoRAX and TGI a kind of module in all layers or none."""
    write_export(exported_trial("generation"), "compact", tmp_path / "out")
    assert failed(tmp_path / "out", []) == {"SGLang 0.5.23", "LoRAX 03679f3", "TGI 45d95bd"}
    findings = {finding.consumer: finding for finding in verify(tmp_path / "out", [])}
    assert re.search("refuses it: it loads only tensors of rank r = 8", findings["SGLang"].note)


WRONG = {
    "peft": ({"lora_alpha": 8.0}, "PEFT"),
    "compact": ({"lora_alpha": 16}, "vLLM ≤ 0.31 0.31.0"),
    "padded": ({"lora_alpha": 16}, "LoRAX"),
}


@pytest.mark.parametrize("form", WRONG)
def test_wrong_alpha_of_an_adapter_fails(exported_trial, tmp_path, form) -> None:
    write_export(exported_trial("generation"), form, tmp_path / "out")
    change, hurt = WRONG[form]
    rewrite(tmp_path / "out" / "adapter_config.json", **change)
    assert any(name.startswith(hurt) for name in failed(tmp_path / "out"))


def test_wrong_alpha_pattern_of_a_compact_adapter_fails_for_those_who_read_it(exported_trial, tmp_path) -> None:
    write_export(exported_trial("generation"), "compact", tmp_path / "out")
    config = tmp_path / "out" / "adapter_config.json"
    ranks = json.loads(config.read_text())["rank_pattern"]
    rewrite(config, alpha_pattern={name: 2 * rank for name, rank in ranks.items()})
    assert {name.split()[0] for name in failed(tmp_path / "out")} == {"PEFT", "axolotl", "vLLM"}
    assert "vLLM ≤ 0.31 0.31.0" not in failed(tmp_path / "out")  # it reads no pattern


def test_wrong_alpha_of_a_merged_model_fails(exported_trial, tmp_path, monkeypatch) -> None:
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
        write_export(exported_trial("generation"), "merged", tmp_path / "out")
    write_export(exported_trial("generation"), "merged", tmp_path / "out", force=True)
    assert failed(tmp_path / "out")


@pytest.mark.parametrize(
    ("form", "file", "change"),
    [
        ("compact", "adapter_config.json", {"target_modules": ["nope"]}),
        ("compact", "adapter_config.json", {"rank_pattern": {}}),
        ("merged", "config.json", {"hidden_size": 64}),
        ("merged", "config.json", {"num_hidden_layers": "three"}),
    ],
)
def test_what_a_consumer_raises_is_a_failure_of_its_own(exported_trial, tmp_path, form, file, change) -> None:
    write_export(exported_trial("generation"), form, tmp_path / "out")
    rewrite(tmp_path / "out" / file, **change)
    findings = {finding.label: finding for finding in verify(tmp_path / "out", None)}
    first = findings["peft" if form == "compact" else "transformers"]
    assert first.passed is False
    if form == "compact":  # what reads each tensor's own rank, or one global scale, is right all the same
        assert findings["vllm-0.31"].passed is True


DAMAGES = {
    "r": 0,
    "lora_alpha": None,
    "rank_pattern": [1],
    "alpha_pattern": {"(": 1},
    "modules_to_save": "classifier",
    "target_modules": 1,
}


@pytest.mark.parametrize("field", [*DAMAGES, "all", "none"])
def test_damaged_configuration_of_a_bundle_is_reported_in_one_line(exported_trial, tmp_path, field) -> None:
    write_export(exported_trial("generation"), "compact", tmp_path / "out")
    config = tmp_path / "out" / "adapter_config.json"
    if field == "none":
        config.unlink()
    elif field == "all":
        config.write_text("[]")
    else:
        rewrite(config, **{field: DAMAGES[field]})
    with pytest.raises(InputError, match=r"adapter_config.json: .*export again") as error:
        verify(tmp_path / "out", None)
    assert "\n" not in str(error.value)


def test_adapter_that_changes_nothing_can_not_be_certified(exported_trial, tmp_path) -> None:
    exported = exported_trial()
    weights = exported.folder.adapter(7) / "adapter_model.safetensors"
    tensors = {
        name: torch.zeros_like(tensor) if "lora_B" in name else tensor for name, tensor in load_file(weights).items()
    }
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(RankSearchError, match="nothing can be certified"):
        write_export(exported, "peft", tmp_path / "out")


@pytest.mark.parametrize("form", ["peft", "compact"])
def test_card_that_states_other_ranks_than_the_weights_have_is_refused(exported_trial, tmp_path, form) -> None:
    write_export(exported_trial("generation"), form, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "rank_search.json").read_text())
    name = next(name for name, rank in manifest["ranks"].items() if rank)
    rewrite(tmp_path / "out" / "rank_search.json", ranks={**manifest["ranks"], name: 7})
    with pytest.raises(InputError, match=rf"ranks\.{re.escape(name)}: says rank 7, but the weights have rank"):
        verify(tmp_path / "out", None)
    rewrite(tmp_path / "out" / "rank_search.json", ranks=manifest["ranks"], trainable_parameters=800)
    with pytest.raises(InputError, match="trainable_parameters: says 800, but the weights have"):
        verify(tmp_path / "out", None)


def test_adapter_of_other_ranks_than_its_record_is_not_exported(exported_trial, tmp_path) -> None:
    """As one that was trained again after its recipe had set its ranks."""
    exported = exported_trial("generation")
    name = next(name for name, rank in exported.trial.ranks.items() if rank)
    record = replace(exported, trial=replace(exported.trial, ranks={**exported.trial.ranks, name: 7}))
    for form in ("peft", "merged"):
        with pytest.raises(RankSearchError, match="its saved adapter has other ranks than its record"):
            write_export(record, form, tmp_path / form)
        assert not (tmp_path / form).exists()
