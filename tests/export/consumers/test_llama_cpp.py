from types import SimpleNamespace

import pytest
import torch

from rank_search.core.errors import RankSearchError
from rank_search.export import gguf_file
from rank_search.export.consumers import llama_cpp
from rank_search.export.formats import write_export
from rank_search.export.protocol import Bundle
from rank_search.export.updates import Refused
from tests.export.helpers import failed


def test_wrong_alpha_of_a_gguf_adapter_fails(exported_trial, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(gguf_file, "_UNSCALED", 8.0)  # as PEFT's own α would be
    with pytest.raises(RankSearchError, match=r"llama.cpp .* FAILS"):
        write_export(exported_trial("generation"), "gguf", tmp_path / "out")
    write_export(exported_trial("generation"), "gguf", tmp_path / "out", force=True)
    assert failed(tmp_path / "out")


@pytest.mark.parametrize(("alpha", "factor"), [(0.0, 1.0), (8.0, 8.0 / 4)])
def test_one_alpha_over_each_tensors_rank_and_zero_for_scale_1(monkeypatch, tmp_path, alpha, factor) -> None:
    config = SimpleNamespace(model_type="llama", to_dict=dict)
    base = SimpleNamespace(model=torch.nn.Module())
    base.model.config = config
    factors = {"w": (torch.ones(4, 3), torch.ones(3, 4))}
    monkeypatch.setattr(gguf_file, "read_gguf", lambda *_arguments: (alpha, factors))
    assert llama_cpp.rule(Bundle(tmp_path, base, None)).updates["w"][2] == factor


def test_without_a_gguf_file_of_the_base_model_its_rules_are_used(tmp_path) -> None:
    (reader,) = llama_cpp.CONSUMER.readers
    base = SimpleNamespace(gguf=None)
    assert not reader.can_run(base)
    with pytest.raises(Refused, match="no GGUF file of the base model"):
        llama_cpp.run(Bundle(tmp_path, base, None))
