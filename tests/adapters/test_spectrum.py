"""SVD of a trained adapter, against a dense SVD and PEFT's own conversion."""

import copy
import warnings

import pytest
import torch
from peft import PeftModel, convert_to_lora

from rank_search.adapters import Member, Spectrum, module_scale, packed
from rank_search.core.ranks import RankMap
from rank_search.models.modules import linear_modules
from rank_search.search.rivals.truncations import truncate_to_energy
from tests.bench import study_config
from tests.small_models import filled, small_model

NAMES = ["layer.0.attention.self.query", "layer.0.intermediate.dense", "layer.1.output.dense"]


@pytest.fixture
def saved(tmp_path):
    """A random adapter with ranks of its own for each module, its model, and its settings."""
    model = small_model("bert").bert
    names = [name for name in linear_modules(model) if any(name.endswith(ending) for ending in NAMES)]
    ranks = RankMap(dict(zip(names, (4, 3, 6), strict=True)))
    config = study_config(adapter={"scale": "rslora", "alpha": 4.0}).adapter
    with packed(model, [Member(ranks, config, 0)]) as pack:
        filled(pack, 0.3)
        pack.adapters(0, {}).save(tmp_path / "adapter")
        deltas = {
            name: (module.A[0, :, :rank] @ module.B[0, :rank]).T * module_scale(config, rank)
            for (name, rank), module in zip(ranks.ranks.items(), pack._modules.values(), strict=True)
        }
    return model, tmp_path / "adapter", config, {name: delta.detach() for name, delta in deltas.items()}


def test_spectrum_is_that_of_the_change_of_weight(saved) -> None:
    model, folder, config, deltas = saved
    spectrum = Spectrum.from_folder(folder, model, config, ())
    assert spectrum.init.scale == 1
    for name, delta in deltas.items():
        values = torch.tensor(spectrum.values[name])
        assert torch.allclose(values, torch.linalg.svdvals(delta)[: len(values)], rtol=1e-4)
        a, b = spectrum.init.factors[name]
        assert torch.allclose((a @ b).T, delta, atol=1e-4)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_first_components_are_the_best_of_their_rank(saved, rank) -> None:
    """Eckart and Young: what is lost is what the other singular values hold."""
    model, folder, config, deltas = saved
    spectrum = Spectrum.from_folder(folder, model, config, ())
    for name, delta in deltas.items():
        a, b = spectrum.init.factors[name]
        lost = torch.linalg.norm(delta - (a[:, :rank] @ b[:rank]).T)
        expected = torch.tensor(spectrum.values[name][rank:]).square().sum().sqrt()
        assert lost.item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.8, 0.9, 0.95])
def test_cuts_by_energy_are_those_of_peft(saved, share) -> None:
    model, folder, config, _ = saved
    ours = truncate_to_energy(
        Spectrum.from_folder(folder, model, config, ()).values, linear_modules(model), share
    ).adapted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft_model = PeftModel.from_pretrained(copy.deepcopy(model), folder)
        converted, _ = convert_to_lora(peft_model, share)
    theirs = {name: converted.rank_pattern.get(name, converted.r) for name in ours}
    assert ours == theirs
