"""A third of the families in every run of the tests; ``python -m tests.families`` goes through all of them."""

import pytest

from tests.families.journey import travel
from tests.families.models import FAMILIES

# One of each kind of trouble: names, heads, shared layers, a class of its own, transposed weights, wide heads, experts,
# no attention, modules that PEFT refuses.
ORDINARY = {
    "roberta",
    "distilbert",
    "deberta-v2",
    "albert",
    "xlnet",
    "t5-embedder",
    "gpt2",
    "llama",
    "qwen3-moe",
    "gemma2",
    "mamba",
}
NAMES = {family.name: family for family in FAMILIES}


def test_there_are_as_many_families_as_are_said() -> None:
    assert len(NAMES) == len(FAMILIES) >= 28
    assert NAMES.keys() >= ORDINARY
    assert 3 * len(ORDINARY) >= len(FAMILIES)


@pytest.mark.training
@pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::FutureWarning:transformers")
@pytest.mark.parametrize("name", sorted(ORDINARY))
def test_a_family_goes_all_the_way(name, tmp_path) -> None:
    lines = travel(NAMES[name], tmp_path)
    assert any(line.strip().startswith("PEFT") and "computes the same" in line for line in lines)
    expected = {"mamba": "mixer.out_proj", "qwen3-moe": "mlp.experts.gate_up_proj", "xlnet": "rel_attn.q"}
    assert any(expected.get(name, "PEFT") in line for line in lines)
