import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from rank_search.core.errors import InputError
from rank_search.export.certificate import verify
from rank_search.export.formats import write_export
from rank_search.export.manifest import FILE
from tests.export.helpers import edit


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
