import numpy as np
import pytest
import torch
from gguf import GGUFReader

from rank_search.adapters import Adapter
from rank_search.core.errors import RankSearchError
from rank_search.export import gguf_file
from rank_search.export.formats import write_export


def test_gguf_has_no_place_for_a_head_that_is_tied_to_the_embeddings(tmp_path) -> None:
    """llama.cpp 0.3.36 (Python) reads such an adapter, and dies of it."""
    settings = {"num_hidden_layers": 1, "tie_word_embeddings": True}
    with pytest.raises(RankSearchError, match="'lm_head' where it is tied to the embeddings"):
        gguf_file.write_gguf(tmp_path / "a", {"lm_head": (torch.zeros(1, 4), torch.zeros(9, 1))}, "llama", settings)
    assert not (tmp_path / "a").exists()


def test_wrong_order_of_rows_in_a_gguf_adapter_fails(exported_trial, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(gguf_file, "_row_order", lambda _name, _type, _settings, rows: torch.arange(rows))
    with pytest.raises(RankSearchError, match=r"llama.cpp .* FAILS"):
        write_export(exported_trial("generation"), "gguf", tmp_path / "out")


def test_gguf_names_and_rows_are_llama_cpps(bases, exported_trial, tmp_path) -> None:
    """Rows of Q and K stand as in its converter's ``permute``, here written out by hand for one head of 8 rows."""
    exported = exported_trial("generation")
    write_export(exported, "gguf", tmp_path / "out")
    write_export(exported, "compact", tmp_path / "compact")
    tensors = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(tmp_path / "out" / "adapter.gguf").tensors}
    factors = Adapter.load(tmp_path / "compact").factors
    a, b = factors["model.layers.0.self_attn.q_proj"]
    assert np.array_equal(tensors["blk.0.attn_q.weight.lora_a"], a)
    assert np.array_equal(tensors["blk.0.attn_q.weight.lora_b"][:8], b[[0, 4, 1, 5, 2, 6, 3, 7]])
    assert np.array_equal(tensors["blk.2.ffn_down.weight.lora_b"], factors["model.layers.2.mlp.down_proj"][1])
    assert not any(name.startswith("blk.1.") for name in tensors)  # the layer of rank 0
