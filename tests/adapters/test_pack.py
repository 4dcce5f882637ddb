import copy
import json
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from torch import nn
from torch.nn import functional
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    LongformerConfig,
    LongformerForSequenceClassification,
)

from rank_search.adapters import Member, Pack, UnpackableError, eva_directions, loaded, packed
from rank_search.config import AdapterConfig
from rank_search.core.errors import InputError, TrainingFailed
from rank_search.core.evaluation import Evaluation
from rank_search.core.job import FineTuned, Job
from rank_search.core.ranks import RankMap
from rank_search.models.modules import build_space
from rank_search.tasks.batching import repeated
from rank_search.training.trainer import fine_tune
from tests import peft_oracle
from tests.bench import study_config
from tests.conftest import filled, small_model

ARCHITECTURES = ("bert", "llama", "gpt2")
MODELS = {name: small_model(name).requires_grad_(False) for name in ARCHITECTURES}
MODULES = study_config(space={"group_by": "module", "ladder": [0, 1]})
SPACES = {name: build_space(model, MODULES) for name, model in MODELS.items()}
TOKENS = torch.arange(10).reshape(2, 5)


def output(model: nn.Module, copies: int = 1) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS.repeat(copies, 1), use_cache=False).logits


def rank_map(architecture: str, number: int, ladder=(0, 1, 3, 8)) -> RankMap:
    """Ranks of a ladder, drawn by chance; the higher the number the more of the first are 0."""
    names = list(SPACES[architecture].shapes)
    draw = random.Random(number)
    ranks = [draw.choice(ladder) for _ in names]
    zeros = number * len(names) // 5
    return RankMap({name: 0 if i < zeros else rank for i, (name, rank) in enumerate(zip(names, ranks, strict=True))})


def member(ranks: RankMap, seed: int = 0, **config) -> Member:
    return Member(ranks, AdapterConfig(**config), seed)


def tensors(pack: Pack, slot: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Module → (A ``[in, rank]``, B ``[rank, out]``) of one adapter, padding included."""
    state = {name: tensor[slot].clone() for name, tensor in pack.state().items()}
    return {name[:-2]: (a, state[f"{name[:-2]}.B"]) for name, a in state.items() if name.endswith(".A")}


class LastToken:
    """A causal or classifying model learns labels; as small as a task can be."""

    head = ()
    classes = ()

    def __init__(self, backbone: nn.Module, head: tuple[str, ...] = ()) -> None:
        self.backbone = backbone
        self.head = head
        self.poison: dict[int, int] = {}  # step → map whose loss is NaN there
        self._step = 0

    def training_batches(self, steps, seed, *, augmented=False):
        draw = torch.Generator().manual_seed(seed)
        for step in range(1, steps + 1):
            self._step = step
            yield {
                "input_ids": torch.randint(3, 64, (4, 7), generator=draw),
                "labels": torch.randint(0, 2, (4,), generator=draw),
            }

    def loss(self, batch, copies=1):
        losses = self._losses(batch, copies).mean(dim=1)
        if self._step in self.poison:
            factor = torch.ones(copies)
            factor[self.poison[self._step]] = torch.nan
            losses = losses * factor
        return losses

    def _losses(self, batch, copies):
        logits = self.backbone(**repeated({"input_ids": batch["input_ids"]}, copies), use_cache=False).logits
        logits = logits if logits.ndim == 2 else logits[:, -1]
        labels = batch["labels"].repeat(copies)
        return functional.cross_entropy(logits, labels, reduction="none").unflatten(0, (copies, -1))

    def evaluate(self, split, copies=1):
        batch = next(LastToken.training_batches(self, 1, 99))
        with torch.inference_mode():
            values = (-self._losses(batch, copies)).tolist()
        return [Evaluation("log-likelihood", {"log-likelihood": of_map}) for of_map in values]


def study(steps: int = 20, adapter=None, **training):
    settings = {"steps": steps, "precision": "float32", "learning_rate": 1e-2, "max_grad_norm": 0.1, **training}
    space = {"ladder": [0, 1, 3, 8], "learning_rate": [1e-4, 1e-1], "alpha": [0.1, 16.0], "dropout": [0.0, 0.5]}
    return study_config(training=settings, adapter=adapter or {}, space=space)


def jobs_of(architecture: str, maps: int = 4) -> list[Job]:
    return [
        Job(
            rank_map(architecture, k),
            seed=k,
            data_seed=5,
            settings={"learning_rate": 1e-2 / (k + 1), "alpha": 2.0 + k},
            number=k,
        )
        for k in range(maps)
    ]


def saved(outcome: FineTuned, folder) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    outcome.save_adapter(folder)
    return load_file(folder / "adapter_model.safetensors")


def plain_loss(model: nn.Module, batch) -> torch.Tensor:
    logits = model(input_ids=batch["input_ids"], use_cache=False).logits
    return functional.cross_entropy(logits if logits.ndim == 2 else logits[:, -1], batch["labels"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pack_trains_each_map_as_plain_peft_does_alone(architecture, tmp_path) -> None:
    """Every adapter tensor agrees to 1e-4 of its norm after 20 steps, for heterogeneous ranks and settings."""
    config, jobs, model = study(), jobs_of(architecture), MODELS[architecture]
    task = LastToken(model)
    outcomes = fine_tune(task, jobs, config, sources={"": "the/base"})
    for k, (job, outcome) in enumerate(zip(jobs, outcomes, strict=True)):
        tuned = config.tuned(job.settings)
        with packed(model, [Member(job.rank_map, tuned.adapter, job.seed)]) as pack:
            start = {
                name: (a[:, :rank].T, b[:rank].T)
                for name, rank in job.rank_map.adapted.items()
                for a, b in [tensors(pack)[name]]
            }
        alone = peft_oracle.trained(
            copy.deepcopy(model),
            job.rank_map,
            tuned.adapter,
            tuned.training,
            start,
            task.training_batches(20, job.data_seed),
            plain_loss,
            fan_in_fan_out=architecture == "gpt2",
        )
        found = saved(outcome, tmp_path / str(k))
        assert len(found) == 2 * len(alone) > 0
        for name, wanted in alone.items():
            for letter, tensor in zip("AB", wanted, strict=True):
                ours = found[f"base_model.model.{name}.lora_{letter}.weight"]
                assert ours.shape == tensor.shape
                assert (ours - tensor).norm() <= 1e-4 * tensor.norm(), (name, letter)
                assert not torch.equal(tensor, start[name][letter == "B"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_poisoned_map_fails_alone(architecture, tmp_path) -> None:
    config, jobs = study(), jobs_of(architecture)
    task = LastToken(MODELS[architecture])
    task.poison = {7: 1}
    outcomes = fine_tune(task, jobs, config, sources={})
    assert isinstance(outcomes[1], TrainingFailed)
    assert str(outcomes[1]) == "the loss is nan at step 7; lower the learning rate or alpha"
    task.poison = {}
    without = fine_tune(task, [job for job in jobs if job.number != 1], config, sources={})
    for place, (found, wanted) in enumerate(zip([outcomes[0], *outcomes[2:]], without, strict=True)):
        ours, theirs = saved(found, tmp_path / f"a{place}"), saved(wanted, tmp_path / f"b{place}")
        assert ours.keys() == theirs.keys()
        assert all((ours[name] - theirs[name]).norm() <= 1e-5 * theirs[name].norm() for name in ours)
        assert found.losses == pytest.approx(wanted.losses, rel=1e-5)


def from_layer(architecture: str, first: int, rank: int = 2) -> RankMap:
    """Adapts the layers from one on."""
    return RankMap({name: rank * (f".{first}." in name or first == 0) for name in SPACES[architecture].shapes})


def test_diverging_map_leaves_those_alone_that_share_its_lower_layers() -> None:
    """Its gradients run, as NaN, through the rows that stood for both below their lowest adapted layer."""
    config, task = study(steps=8), LastToken(MODELS["bert"])
    wild = {"learning_rate": 1e25}
    jobs = [
        Job(from_layer("bert", 0), 1, data_seed=0, number=0),
        Job(from_layer("bert", 1), 2, data_seed=0, number=1),
        Job(from_layer("bert", 1), 3, data_seed=0, number=2, settings=wild),
    ]
    first, second, third = fine_tune(task, jobs, config, sources={})
    assert isinstance(third, TrainingFailed)
    for found, job in ((first, jobs[0]), (second, jobs[1])):
        (alone,) = fine_tune(task, [job], config, sources={})
        assert found.losses == pytest.approx(alone.losses, rel=1e-5)


def test_padding_stays_exactly_zero(monkeypatch) -> None:
    model, jobs = MODELS["bert"], jobs_of("bert")
    seen = []
    monkeypatch.setattr("rank_search.adapters.Pack.adapters", lambda pack, *_: seen.append(pack) or _Kept())
    fine_tune(LastToken(model), jobs, study(weight_decay=0.1), sources={})
    for k, job in enumerate(jobs):
        for name, (a, b) in tensors(seen[0], k).items():
            rank = job.rank_map.ranks[name]
            assert (a[:, rank:] == 0).all()
            assert (b[rank:] == 0).all()
            assert rank == 0 or (b[:rank] != 0).all()


class _Kept:
    save = None


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(ARCHITECTURES), st.integers(1, 3), st.data())
def test_fresh_pack_changes_nothing_and_counts_as_peft_does(architecture, maps, data) -> None:
    model, space = MODELS[architecture], SPACES[architecture]
    drawn = [RankMap({name: data.draw(st.integers(0, 4), label=name) for name in space.shapes}) for _ in range(maps)]
    before = output(model, maps)
    with packed(model, [member(ranks, seed=k) for k, ranks in enumerate(drawn)]) as pack:
        if maps == 1:
            assert torch.equal(output(model), before)
        else:  # fewer rows pass the lower layers, so sums may be taken in another order
            assert torch.allclose(output(model, maps), before, atol=1e-6)
        for k, ranks in enumerate(drawn):
            stored = sum(weight.numel() for of in pack.adapters(k, {}).of.values() for weight in of.tensors.values())
            assert stored == space.parameters(ranks)
    assert torch.equal(output(model, maps), before)
    for ranks in drawn:
        if ranks.adapted:
            transposed = architecture == "gpt2"
            with peft_oracle.adapted(model, ranks, AdapterConfig(), fan_in_fan_out=transposed) as peft_model:
                assert peft_model.get_nb_trainable_parameters()[0] == space.parameters(ranks)
                found = {name: layer.r["default"] for name, layer in peft_oracle.lora_layers(model).items()}
                assert found == ranks.adapted


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saved_adapter_of_a_pack_loads_by_plain_peft(architecture, tmp_path) -> None:
    model = MODELS[architecture]
    maps = [rank_map(architecture, k) for k in range(3)]
    with packed(model, [member(ranks, seed=k) for k, ranks in enumerate(maps)]) as pack:
        filled(pack)
        together = output(model, 3).chunk(3)
        for k in range(3):
            pack.adapters(k, {"": "the/base"}).save(tmp_path / str(k))
    for k, ranks in enumerate(maps):
        written = json.loads((tmp_path / str(k) / "adapter_config.json").read_text())
        assert written["base_model_name_or_path"] == "the/base"
        assert len(written["rank_pattern"]) == len(ranks.adapted)
        fresh = small_model(architecture)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *args, **kwargs: None)  # transformers' own deprecations
            plain = PeftModel.from_pretrained(fresh, tmp_path / str(k))
        assert torch.allclose(output(plain), together[k], atol=1e-5)
        assert not torch.allclose(output(model), together[k], atol=1e-4)
        with loaded(model, tmp_path / str(k)):
            assert torch.equal(output(model), output(plain))


def rows_of_layers(model: nn.Module, layers: list[nn.Module], run) -> list[int]:
    """How many rows pass through the first linear module of each layer."""
    seen: list[int] = []
    first = [next(module for module in layer.modules() if isinstance(module, nn.Linear)) for layer in layers]
    handles = [module.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0]))) for module in first]
    run()
    for handle in handles:
        handle.remove()
    return seen


def test_what_lies_below_the_lowest_adapted_layer_is_computed_once() -> None:
    model = MODELS["bert"]
    names = list(SPACES["bert"].shapes)
    upper = RankMap({name: 2 if ".1." in name else 0 for name in names})
    lower = RankMap({name: 2 if ".0.output" in name else 0 for name in names})
    maps = [upper, lower, upper, RankMap(dict.fromkeys(names, 0))]
    solo = []
    for k, ranks in enumerate(maps):
        with packed(model, [member(ranks, seed=k)]) as pack:
            filled(pack)
            solo.append(output(model))
    layers = list(model.bert.encoder.layer)
    with packed(model, [member(ranks, seed=k) for k, ranks in enumerate(maps)]) as pack:
        for name, module in pack._modules.items():
            for k, ranks in enumerate(maps):
                draw = torch.Generator().manual_seed(0)
                own = [m for m in names if ranks.ranks[m]]
                if name in own:
                    for other in own:
                        b = torch.randn(1, 2, SPACES["bert"].shapes[other].out_features, generator=draw)
                        if other == name:
                            module.B.data[k] = b[0]
        found: list[torch.Tensor] = []
        assert rows_of_layers(model, layers, lambda: found.append(output(model, 4))) == [4, 8]
        for k, alone in enumerate(solo):
            assert torch.allclose(found[0].chunk(4)[k], alone, atol=1e-5)
        different = torch.cat([TOKENS, TOKENS, TOKENS + 1, TOKENS])
        with torch.no_grad():
            seen = rows_of_layers(model, layers, lambda: model(input_ids=different))
        assert seen == [8, 8]


def test_decoding_in_a_pack_is_decoding_alone() -> None:
    model = MODELS["llama"]
    maps = [rank_map("llama", k) for k in range(3)]

    def written(copies: int) -> torch.Tensor:
        return model.generate(
            input_ids=TOKENS.repeat(copies, 1) + 3,
            attention_mask=torch.ones(2 * copies, 5),
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=None,
        )

    with packed(model, [member(ranks, seed=k) for k, ranks in enumerate(maps)]) as pack:
        filled(pack)
        together = written(3).chunk(3)
        for k in range(3):
            pack.keep([k])
            assert torch.equal(written(1), together[k])
    assert not torch.equal(together[0], together[1])


def test_heads_are_trained_for_each_map(tmp_path) -> None:
    model = MODELS["bert"]
    own = {name: weight.clone() for name, weight in model.state_dict().items()}
    task = LastToken(model, head=("classifier",))
    maps = [rank_map("bert", 0), RankMap(dict.fromkeys(SPACES["bert"].shapes, 0))]
    jobs = [Job(ranks, seed=k, data_seed=0, number=k) for k, ranks in enumerate(maps)]
    config = study(max_grad_norm=1.0)
    together = fine_tune(task, jobs, config, sources={})
    for k, job in enumerate(jobs):
        (alone,) = fine_tune(task, [job], config, sources={})
        assert alone.losses == pytest.approx(together[k].losses, rel=1e-4)
        head = saved(alone, tmp_path / str(k))["base_model.model.classifier.weight"]
        assert not torch.equal(head, own["classifier.weight"])
        with loaded(model, tmp_path / str(k)):
            found = task.evaluate("validation")[0].values["log-likelihood"]
        assert found == pytest.approx(alone.evaluation.values["log-likelihood"], abs=1e-5)
    assert all(torch.equal(weight, own[name]) for name, weight in model.state_dict().items())


def test_dropout_is_each_maps_own() -> None:
    model = MODELS["bert"]
    ranks = rank_map("bert", 0)
    wet, dry = ({"dropout": p} for p in (0.5, 0.0))
    config = study(steps=5)
    jobs = [Job(ranks, seed=1, data_seed=0, settings=each, number=k) for k, each in enumerate([wet, dry, wet])]
    one, two, three = (of.losses for of in fine_tune(LastToken(model), jobs, config, sources={}))
    assert one == pytest.approx(three, rel=1e-5)  # the same seed draws the same masks
    assert one != pytest.approx(two, rel=1e-5)
    (alone,) = fine_tune(LastToken(model), jobs[1:2], config, sources={})
    assert alone.losses == pytest.approx(two, rel=1e-5)
    # Nor does it draw anything where another map alone is adapted.
    upper = Job(from_layer("bert", 1), seed=4, data_seed=0, settings=wet, number=3)
    beside = fine_tune(LastToken(model), [upper, jobs[0]], config, sources={})[0]
    (alone,) = fine_tune(LastToken(model), [upper], config, sources={})
    assert alone.losses == pytest.approx(beside.losses, rel=1e-5)


@pytest.mark.parametrize("head", ["bert.embeddings.token_type_embeddings", "bert.encoder.layer.0.output.LayerNorm"])
def test_heads_below_adapters_keep_maps_apart(head) -> None:
    """Modules that the source lacks may lie anywhere."""
    model, ranks = MODELS["bert"], from_layer("bert", 1)
    with torch.no_grad(), packed(model, [member(ranks, seed) for seed in (0, 1)], head=(head,)) as pack:
        draw = torch.Generator().manual_seed(0)
        for weight in (w for copy_ in pack._heads[head].copies for w in copy_.parameters()):
            weight.add_(torch.randn(weight.shape, generator=draw))
        together = output(model, 2).chunk(2)
        for k in range(2):
            pack.keep([k])
            assert torch.allclose(output(model), together[k], atol=1e-5)
    assert not torch.allclose(*together, atol=1e-2)


def test_positions_that_can_not_be_parted_are_computed_for_every_map() -> None:
    """BLOOM gives its layers positions of [rows · heads, 1, length]."""
    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4)).eval()
    space = build_space(model.requires_grad_(False), MODULES)
    maps = [RankMap({name: 2 * (f".{layer}." in name) for name in space.shapes}) for layer in (0, 1, 1)]
    with packed(model, [member(ranks, seed) for seed, ranks in enumerate(maps)]) as pack:
        filled(pack)
        together = output(model, 3).chunk(3)
        for k in range(3):
            pack.keep([k])
            assert torch.allclose(output(model), together[k], atol=1e-5)


@pytest.mark.parametrize("family", ["deberta", "longformer"])
def test_models_that_do_not_keep_rows_together_are_told(family) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if family == "deberta":
        config = DebertaV2Config(
            **sizes, intermediate_size=48, relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=True
        )
        model = DebertaV2ForSequenceClassification(config)
    else:
        config = LongformerConfig(**sizes, intermediate_size=48, attention_window=4, max_position_embeddings=64)
        model = LongformerForSequenceClassification(config)
    space = build_space(model.eval().requires_grad_(False), MODULES)
    ranks = space.uniform(1)
    with packed(model, [member(ranks, 0)]) as pack:
        filled(pack)
        assert model(input_ids=TOKENS).logits.isfinite().all()
    with packed(model, [member(ranks, 0), member(ranks, 1)]), pytest.raises(UnpackableError, match="a linear layer"):
        model(input_ids=TOKENS.repeat(2, 1))


def starting_a(init: dict, rank: int = 8, seed: int = 0, directions=None) -> dict[str, torch.Tensor]:
    model = MODELS["bert"]
    with packed(model, [member(SPACES["bert"].uniform(rank), seed, init=init)], directions=directions) as pack:
        found = tensors(pack)
    assert all((b == 0).all() for _, b in found.values())
    return {name: a.T for name, (a, _) in found.items()}


def test_gaussian_init_has_the_std_asked_for() -> None:
    values = torch.cat([a.flatten() for a in starting_a({"method": "gaussian", "std": 0.05}).values()])
    assert values.std().item() == pytest.approx(0.05, rel=0.1)


def test_kaiming_init_is_pefts_law() -> None:
    for a in starting_a({"method": "kaiming"}).values():
        bound = a.shape[1] ** -0.5
        assert 0.9 * bound < a.abs().max() <= bound
        assert a.std().item() == pytest.approx(bound / 3**0.5, rel=0.2)


@pytest.mark.parametrize("method", ["gaussian", "kaiming"])
def test_seed_decides_the_start(method) -> None:
    one, same, other = (starting_a({"method": method}, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_eva_starts_along_the_inputs_leading_directions() -> None:
    model, space = MODELS["bert"], SPACES["bert"]
    tokens = torch.randint(0, 64, (16, 20), generator=torch.Generator().manual_seed(0))
    batches = [{"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}]
    directions = eva_directions(model, space.uniform(4), AdapterConfig(), {"": batches})
    assert {tuple(v.shape) for v in directions.values()} == {(4, 32), (4, 48)}
    start = starting_a({"method": "eva"}, rank=2, directions=directions)
    assert all(torch.allclose(start[name], directions[name][:2].float()) for name in start)
    # The first module sees the embeddings: its directions are their principal ones.
    with torch.no_grad():
        seen = model.bert.embeddings(tokens).reshape(-1, 32)
    _, _, exact = torch.linalg.svd(seen - seen.mean(0), full_matrices=False)
    first = directions["bert.encoder.layer.0.attention.self.query"].float()
    assert (exact[:2] @ first[:2].T).abs().diag().min().item() > 0.99


def test_eva_with_fewer_tokens_than_ranks_is_refused() -> None:
    """PEFT would go round and round."""
    tokens = torch.arange(6).reshape(2, 3)
    batches = [{"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}]
    with pytest.raises(InputError, match=r"adapter\.init\.method: .* one has 6 for rank 7"):
        eva_directions(MODELS["bert"], SPACES["bert"].uniform(7), AdapterConfig(), {"": batches})


def test_saving_again_replaces_the_adapter(tmp_path) -> None:
    for rank in (1, 2):
        with packed(MODELS["bert"], [member(SPACES["bert"].uniform(rank))]) as pack:
            pack.adapters(0, {}).save(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == 2


def test_pack_that_fails_half_way_leaves_nothing_behind(monkeypatch) -> None:
    model, space = MODELS["llama"], SPACES["llama"]
    before, modules = output(model), [type(module) for module in model.modules()]
    made = []

    def failing(*arguments):
        made.append(arguments)
        if len(made) == 4:
            raise MemoryError("out of memory")
        return torch.zeros(*arguments)

    monkeypatch.setattr("rank_search.adapters.layers._stack", failing)
    with pytest.raises(MemoryError), packed(model, [member(space.uniform(1))]):
        pass
    assert [type(module) for module in model.modules()] == modules
    assert torch.equal(output(model), before)
