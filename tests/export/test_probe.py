import copy
import warnings
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from rank_search.config import ModelSource
from rank_search.core.errors import InputError
from rank_search.export.probe import FILE, LoadedBase, Reference, merged, outputs, outputs_with
from rank_search.export.updates import AppliedUpdates, Refused

NAME = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def base() -> LoadedBase:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, pad_token_id=0
    )
    return LoadedBase(ModelSource(source="x"), LlamaForCausalLM(config).eval(), None, "", None)


IDS = torch.tensor([[3, 4, 5], [6, 7, 0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


def test_updates_are_added_to_the_outputs_of_modules_and_taken_out_again(base) -> None:
    a, b = torch.randn(2, 8), torch.randn(8, 2)
    before = outputs(base.model, IDS, MASK)
    found = outputs_with(base, AppliedUpdates({NAME: (a, b, 0.5)}), IDS, MASK)
    assert torch.equal(outputs(base.model, IDS, MASK), before)
    with torch.no_grad():  # the slow way: change the weight itself
        base.model.get_parameter(f"{NAME}.weight").add_(0.5 * b @ a)
    torch.testing.assert_close(found, outputs(base.model, IDS, MASK), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, before, atol=1e-4)


def test_replaced_parameters_are_put_back(base) -> None:
    before = base.model.get_parameter("lm_head.weight").clone()
    found = outputs_with(base, AppliedUpdates({}, {"lm_head.weight": torch.zeros_like(before)}), IDS, MASK)
    assert not found.any()
    assert torch.equal(base.model.get_parameter("lm_head.weight"), before)


def test_update_of_an_unknown_module_is_a_refusal(base) -> None:
    with pytest.raises(Refused, match="the base model has no linear layer 'nope'"):
        outputs_with(base, AppliedUpdates({"nope": (torch.ones(1, 8), torch.ones(8, 1), 1.0)}), IDS, MASK)


def test_differences_are_parts_of_the_largest_change_and_of_the_largest_output(tmp_path) -> None:
    reference = Reference(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.5, 4.0]]), IDS, MASK)
    assert reference.difference(torch.tensor([[1.5, 4.5]])) == 0.25
    assert reference.of_output(torch.tensor([[1.5, 4.5]])) == 0.125
    assert reference.effect == 0.5
    reference.save(tmp_path)
    assert torch.equal(Reference.load(tmp_path).adapted, reference.adapted)
    save_file({"ids": IDS}, tmp_path / FILE)
    with pytest.raises(InputError, match=r"reference.safetensors: is damaged or missing"):
        Reference.load(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_output_layer_is_merged_without_changing_the_embeddings(tmp_path, tied) -> None:
    """Merged into the weights that both share, the adapter would change the embeddings too."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    base = LlamaForCausalLM(LlamaConfig(vocab_size=64, tie_word_embeddings=tied, **sizes)).eval()
    config = LoraConfig(r=2, target_modules=["lm_head", "model.layers.0.mlp.up_proj"], init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT advises against tied layers
        adapted = get_peft_model(copy.deepcopy(base), config).eval()
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    merged(SimpleNamespace(model=base), tmp_path / "adapter").save_pretrained(tmp_path / "merged")
    loaded = LlamaForCausalLM.from_pretrained(tmp_path / "merged").eval()
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, adapted(ids).logits, rtol=1e-4, atol=1e-5)
    assert torch.equal(loaded.model.embed_tokens.weight, base.model.embed_tokens.weight)
    assert base.config.tie_word_embeddings is tied
