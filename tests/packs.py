"""Small random models with packs of adapters on them, and the smallest task that a pack can be trained on."""

from __future__ import annotations

import random

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from rank_search.adapters import Member, Pack, packed
from rank_search.config import AdapterConfig
from rank_search.core.evaluation import Evaluation
from rank_search.core.job import FineTuned, Job
from rank_search.core.ranks import RankMap
from rank_search.models.modules import build_space
from rank_search.tasks.batching import repeat_copies
from tests.bench import study_config
from tests.jobs import job_for
from tests.small_models import small_model

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


def from_layer(architecture: str, first: int, rank: int = 2) -> RankMap:
    """Adapts the layers from one on."""
    return RankMap({name: rank * (f".{first}." in name or first == 0) for name in SPACES[architecture].shapes})


def member(ranks: RankMap, seed: int = 0, **config) -> Member:
    return Member(ranks, AdapterConfig(**config), seed)


def tensors(pack: Pack, slot: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Module → (A ``[in, rank]``, B ``[rank, out]``) of one adapter, padding included."""
    state = {name: tensor[slot].clone() for name, tensor in pack.state().items()}
    return {name[:-2]: (a, state[f"{name[:-2]}.B"]) for name, a in state.items() if name.endswith(".A")}


def starting_a(init: dict, rank: int = 8, seed: int = 0, directions=None) -> dict[str, torch.Tensor]:
    model = MODELS["bert"]
    with packed(model, [member(SPACES["bert"].uniform(rank), seed, init=init)], directions=directions) as pack:
        found = tensors(pack)
    assert all((b == 0).all() for _, b in found.values())
    return {name: a.T for name, (a, _) in found.items()}


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
        logits = self.backbone(**repeat_copies({"input_ids": batch["input_ids"]}, copies), use_cache=False).logits
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
        job_for(
            rank_map(architecture, k),
            seed=k,
            data_seed=5,
            settings={"learning_rate": 1e-2 / (k + 1), "alpha": 2.0 + k},
            number=k,
        )
        for k in range(maps)
    ]


def saved(outcome: FineTuned, folder) -> dict[str, torch.Tensor]:
    outcome.save_adapter(folder)
    return load_file(folder / "adapter_model.safetensors")
