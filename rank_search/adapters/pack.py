"""Puts the adapters of several rank maps into frozen base models at once, and takes them out again."""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from rank_search.adapters.layers import PackedHead, PackedLinear, Rows
from rank_search.adapters.lora import base_models, lora_config, module_scale, stored_transposed
from rank_search.adapters.saving import Adapter, Adapters
from rank_search.core.module_names import layer_of
from rank_search.core.ranks import RankMap
from rank_search.models.modules import linear_modules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor
    from torch.utils.hooks import RemovableHandle

    from rank_search.config import AdapterConfig


@dataclass(frozen=True)
class Start:
    """Where an adapter begins, if not by the study's init rule.

    Attributes:
        factors: module → (A ``[in, rank]``, B ``[rank, out]``), which may have more components than a map takes.
        scale: the factor s at every rank; None for the study's rule.
        head: the head's weights, by module and the name of the weight in it; empty for a fresh head.
    """

    factors: Mapping[str, tuple[Tensor, Tensor]]
    scale: float | None = None
    head: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """One rank map of a pack.

    Attributes:
        rank_map: the ranks.
        config: scale, dropout and init of its adapters.
        seed: draws A, and dropout during training.
        start: where they begin; None for the init rule and B = 0.
    """

    rank_map: RankMap
    config: AdapterConfig
    seed: int
    start: Start | None = None


@dataclass(frozen=True)
class Trained:
    """What is trained in one base model.

    Attributes:
        adapter: A and B of its modules.
        head: weights of the modules that are trained whole.
    """

    adapter: Sequence[nn.Parameter]
    head: Sequence[nn.Parameter] = ()

    @property
    def all(self) -> list[nn.Parameter]:
        """Both."""
        return [*self.adapter, *self.head]


class Pack:
    """Adapters side by side in frozen base models, each map's on rows of its own.

    Args:
        models: base models by the prefix of their module names.
        largest: of each module the largest rank that a map may have.
        slots: how many adapters there are; maps may share one, as in a nested super-adapter.
        head: modules that are trained whole, on a copy for each slot.

    Attributes:
        members: the maps, in the order of their rows.
    """

    def __init__(self, models: Mapping[str, nn.Module], largest: RankMap, slots: int, head: Sequence[str]) -> None:
        self.members: tuple[Member, ...] = ()
        self._models = models
        self._transposed = {prefix: stored_transposed(model, largest.under(prefix)) for prefix, model in models.items()}
        self._names = {prefix: tuple(linear_modules(model)) for prefix, model in models.items()}
        self._rows = {prefix: Rows() for prefix in models}
        self._modules: dict[str, PackedLinear] = {}
        self._heads: dict[str, PackedHead] = {}
        self._handles: list[RemovableHandle] = []
        for prefix, model in models.items():
            shapes, rows = linear_modules(model), self._rows[prefix]
            for name, rank in largest.under(prefix).adapted.items():
                base = model.get_submodule(name)
                self._modules[prefix + name] = PackedLinear(base, shapes[name], slots, rank, rows)
            for name in head:
                base = model.get_submodule(name)
                copies = [copy.deepcopy(base).requires_grad_() for _ in range(slots)]
                self._heads[prefix + name] = PackedHead(base, copies, rows)
        self._trained = [[of for prefix in models if (of := self._views(prefix, k)).all] for k in range(slots)]

    def put_in(self) -> None:
        """Puts the adapters into the base models."""
        for prefix, model in self._models.items():
            layers = {layer_of(name) for name in linear_modules(model) if layer_of(name) != name}
            self._handles += self._rows[prefix].attach(model, prefix, layers)
            for name, module in self._within(prefix).items():
                model.set_submodule(name, module)

    def take_out(self) -> None:
        """Puts the base models' own modules back."""
        for handle in self._handles:
            handle.remove()
        for prefix, model in self._models.items():
            for name, module in self._within(prefix).items():
                model.set_submodule(name, module.base)

    def _within(self, prefix: str) -> dict[str, PackedLinear | PackedHead]:
        """The layers of one base model, by the name that they have in it."""
        every: dict[str, PackedLinear | PackedHead] = {**self._modules, **self._heads}
        return {name.removeprefix(prefix): module for name, module in every.items() if name.startswith(prefix)}

    def _views(self, prefix: str, slot: int) -> Trained:
        """What is trained of one adapter in one base model."""
        adapter: list[nn.Parameter] = []
        head: list[nn.Parameter] = []
        for module in self._within(prefix).values():
            if isinstance(module, PackedHead):
                head += module.copies[slot].parameters()
            else:
                adapter += [_view(module.A, slot), _view(module.B, slot)]
        return Trained(adapter, head)

    def assign(self, members: Sequence[Member], slots: Sequence[int]) -> None:
        """Says which maps stand in the batch, in the order of their rows, and which adapter each uses."""
        self.members = tuple(members)
        device = next(self._models[next(iter(self._models))].parameters()).device
        generators = [torch.Generator(device).manual_seed(member.seed) for member in members]
        adapted_in: dict[str, set[int]] = {}
        for name, module in self._modules.items():
            ranks = [member.rank_map.ranks.get(name, 0) for member in members]
            scales = [module_scale(of.config, rank) if rank else 0.0 for of, rank in zip(members, ranks, strict=True)]
            module.assign(ranks, scales, [member.config.dropout for member in members], generators)
            adapted_in.setdefault(layer_of(name), set()).update(k for k, rank in enumerate(ranks) if rank)
        for name in self._heads:
            adapted_in.setdefault(layer_of(name), set()).update(range(len(members)))
        for rows in self._rows.values():
            rows.begin(slots, adapted_in)

    def start(self, slot: int, member: Member, directions: Mapping[str, Tensor] | None) -> None:
        """Sets one adapter to where a map's training begins."""
        generator = torch.Generator().manual_seed(member.seed)
        with torch.no_grad():
            for name, rank in member.rank_map.adapted.items():
                module = self._modules[name]
                if member.start is not None:
                    a, b = (weight.to(module.A) for weight in member.start.factors[name])
                    module.A[slot, :, :rank], module.B[slot, :rank] = a[:, :rank], b[:rank]
                else:
                    first = _first(rank, module.A.shape[1], member.config, generator, (directions or {}).get(name))
                    module.A[slot, :, :rank] = first.T.to(module.A)
            for name, weights in (member.start.head if member.start else {}).items():
                self._heads[name].copies[slot].load_state_dict(dict(weights))

    @property
    def active(self) -> list[int]:
        """Numbers of the maps that are in the batch now."""
        return [*next(iter(self._rows.values())).active]

    def keep(self, active: Sequence[int]) -> None:
        """Takes all other maps out of the batch; their adapters stay as they are."""
        for rows in self._rows.values():
            rows.active = [*active]

    def compute_in(self, dtype: torch.dtype) -> None:
        """Sets the type in which adapters are multiplied; they are held in float32."""
        for rows in self._rows.values():
            rows.dtype = dtype

    def train(self, *, dropout: bool) -> None:
        """Switches the adapters' dropout alone: the frozen base stays in evaluation mode."""
        for module in self._modules.values():
            module.training = dropout

    def trained(self, slot: int) -> list[Trained]:
        """What is trained of one adapter and its head, by base model; views of the stacks that hold them all."""
        return self._trained[slot]

    def state(self) -> dict[str, Tensor]:
        """Every tensor that is trained, by a name of its own; the tensors themselves."""
        stacks = {f"{name}.{letter}": getattr(of, letter) for name, of in self._modules.items() for letter in "AB"}
        heads = {f"{name}.{key}": w for name, of in self._heads.items() for key, w in of.copies.state_dict().items()}
        return {name: tensor.detach() for name, tensor in {**stacks, **heads}.items()}

    def adapters(self, k: int, sources: Mapping[str, str]) -> Adapters:
        """A map's adapter as PEFT has it, apart from the pack.

        Args:
            k: number of the map, whose adapter is in the slot of that number.
            sources: of each base model by its prefix, for whoever loads the adapter.
        """
        member = self.members[k]
        found = {}
        for prefix in self._models:
            own = member.rank_map.under(prefix)
            heads = {name: of for name, of in self._within(prefix).items() if isinstance(of, PackedHead)}
            if not own.adapted and not heads:
                continue
            config = lora_config(
                own,
                member.config,
                base_model=sources.get(prefix),
                head=list(heads),
                fan_in_fan_out=self._transposed[prefix],
                others=self._names[prefix],
            )
            tensors = {}
            for name, rank in own.adapted.items():
                module = self._modules[prefix + name]
                tensors[f"{name}.lora_A.weight"] = module.A[k, :, :rank].T
                tensors[f"{name}.lora_B.weight"] = module.B[k, :rank].T
            for name, packed in heads.items():
                tensors |= {f"{name}.{key}": weight for key, weight in packed.copies[k].state_dict().items()}
            found[prefix] = Adapter.of(config, tensors)
        return Adapters(found)


@contextmanager
def packed(
    backbone: nn.Module,
    members: Sequence[Member],
    head: Sequence[str] = (),
    directions: Mapping[str, Tensor] | None = None,
) -> Iterator[Pack]:
    """Puts the adapters of several maps into frozen base models, and takes them out again at the end.

    A starts by the study's init rule and B at zero, so that the models' output is unchanged, unless a member
    says otherwise.

    Args:
        backbone: the base model, or a ``ModuleDict`` of several.
        members: the maps.
        head: modules that are trained whole, on a copy for each map.
        directions: for ``init.method: eva``, what `eva_directions` found.
    """
    largest: dict[str, int] = {}
    for member in members:
        for name, rank in member.rank_map.ranks.items():
            largest[name] = max(rank, largest.get(name, 0))
    pack = Pack(base_models(backbone), RankMap(largest), len(members), head)
    try:
        pack.put_in()
        pack.assign(members, range(len(members)))
        for slot, member in enumerate(members):
            pack.start(slot, member, directions)
        yield pack
    finally:
        pack.take_out()


def _view(stack: nn.Parameter, slot: int) -> nn.Parameter:
    """One slot of a stack as a parameter, with its part of the stack's gradient."""
    if stack.grad is None:
        stack.grad = torch.zeros_like(stack)
    view = nn.Parameter(stack.detach()[slot])
    view.grad = stack.grad[slot]
    return view


def _first(
    rank: int, features: int, config: AdapterConfig, generator: torch.Generator, directions: Tensor | None
) -> Tensor:
    """A ``[rank, in]`` by the study's init rule; PEFT's names and laws."""
    weight = torch.empty(rank, features)
    match config.init.method:
        case "kaiming":
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
        case "gaussian":
            nn.init.normal_(weight, std=config.init.std, generator=generator)
        case "eva":
            if directions is None:
                raise ValueError("init.method eva needs the directions that eva_directions finds")
            weight = directions[:rank].float()
    return weight
