import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from rank_search.core.errors import InputError
from rank_search.export import certificate
from rank_search.export.certificate import verify
from rank_search.export.formats import write_export
from rank_search.export.manifest import FILE, weight_digests
from tests.export.helpers import edit, rewrite


def test_measure_of_a_certificate_is_not_to_be_edited(exported_trial, tmp_path) -> None:
    write_export(exported_trial(), "compact", tmp_path / "out")
    reference = tmp_path / "out" / "certificate" / "reference.safetensors"
    tensors = load_file(reference)
    save_file({**tensors, "base": 1000 * tensors["base"]}, reference)
    with pytest.raises(InputError, match=r"certificate/reference.safetensors: is not what was exported"):
        verify(tmp_path / "out", None)


def test_strange_weights_in_a_bundle_are_refused(exported_trial, tmp_path) -> None:
    write_export(exported_trial(), "merged", tmp_path / "out")
    save_file({"x": torch.zeros(1)}, tmp_path / "out" / "model-00002-of-00002.safetensors")
    with pytest.raises(InputError, match=r"model-00002-of-00002.safetensors: is no part of what was exported"):
        verify(tmp_path / "out", None)


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "certificate/reference.safetensors", FILE])
def test_truncated_bundle_is_refused(exported_trial, tmp_path, file) -> None:
    write_export(exported_trial(), "compact", tmp_path / "out")
    path = tmp_path / "out" / file
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=f"{re.escape(file)}: "):
        verify(tmp_path / "out", None)


def test_edited_weights_of_a_bundle_are_refused(exported_trial, tmp_path) -> None:
    write_export(exported_trial(), "compact", tmp_path / "out")
    edit(tmp_path / "out" / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"adapter_model.safetensors: is not what was exported"):
        verify(tmp_path / "out", None)


def sign(folder) -> None:
    """Makes the digests those of the files, as somebody who crafts a bundle would."""
    rewrite(folder / FILE, weights=weight_digests(folder))


CLASSES = {"classes": 300_000_000}
NEGATIVE = {"classes": -1}


@pytest.mark.parametrize("classes", [CLASSES, NEGATIVE])
@pytest.mark.parametrize("kind", ["retrieval", "classification"])
def test_classes_that_the_outputs_do_not_have_are_refused_before_a_model_is_made(
    exported_trial, tmp_path, monkeypatch, kind, classes
) -> None:
    out = tmp_path / "out"
    write_export(exported_trial(kind), "peft", out)
    rewrite(out / FILE, base={**json.loads((out / FILE).read_text())["base"], **classes})
    monkeypatch.setattr(certificate, "load_base", lambda *_given: pytest.fail("a model was made"))
    with pytest.raises(InputError, match=r"rank_search.json: base.*; export again"):
        verify(out, None)


REFERENCES = {
    "an adapter without effect": lambda found: {**found, "adapted": found["base"]},
    "outputs of zeros": lambda found: {**found, "adapted": 0 * found["base"], "base": 0 * found["base"]},
    "outputs of NaN": lambda found: {**found, "base": found["base"] * float("nan")},
    "no texts": lambda found: {**found, "ids": found["ids"][:0], "mask": found["mask"][:0]},
    "long texts": lambda found: {name: tensor.repeat(1, 9) for name, tensor in found.items()},
    "texts that are no numbers of tokens": lambda found: {**found, "ids": found["ids"].float()},
    "a mask with holes": lambda found: {**found, "mask": 1 - found["mask"]},
    "a mask of another shape": lambda found: {**found, "mask": found["mask"][:, 1:]},
    "other outputs": lambda found: {**found, "base": found["base"][:, 1:].contiguous()},
    "tokens beyond the embeddings": lambda found: {**found, "ids": found["ids"] + 10**6},
    "tokens below 0": lambda found: {**found, "ids": found["ids"] - 10**6},
    "further tensors": lambda found: {**found, "more": found["base"].clone()},
}


@pytest.mark.parametrize("crafted", REFERENCES)
def test_reference_that_no_export_writes_is_refused(exported_trial, tmp_path, crafted) -> None:
    out = tmp_path / "out"
    write_export(exported_trial(), "peft", out)
    reference = out / "certificate" / "reference.safetensors"
    found = REFERENCES[crafted](load_file(reference))
    save_file({name: tensor.clone().contiguous() for name, tensor in found.items()}, reference)
    sign(out)
    with pytest.raises(InputError, match=r"certificate/reference.safetensors: .*; export again"):
        verify(out, None)


def test_a_link_to_a_device_is_not_read(exported_trial, tmp_path) -> None:
    write_export(exported_trial(), "peft", tmp_path / "out")
    (tmp_path / "out" / "more.safetensors").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"more.safetensors: is neither a file nor a folder; remove it"):
        verify(tmp_path / "out", None)


@pytest.mark.parametrize(
    "change",
    [{"num_hidden_layers": 10**9}, {"vocab_size": 10**12}, {"num_labels": 300_000_000}, {"quantization_config": {}}],
    ids=str,
)
def test_configuration_of_a_merged_model_is_that_of_its_base(exported_trial, tmp_path, change) -> None:
    """A model of a billion layers would be built before its weights are missed."""
    out = tmp_path / "out"
    write_export(exported_trial(), "merged", out)
    rewrite(out / "config.json", **change)
    findings = verify(out, None)
    assert {finding.label for finding in findings} == {"transformers", "sentence-transformers"}
    for finding in findings:
        assert finding.passed is False
        assert finding.note.startswith(f"refuses it: config.json has {next(iter(change))}")
