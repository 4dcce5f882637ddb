"""Injects the adapters of several rank maps into frozen base models at once, and removes them again."""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from rank_search.adapters.layers import PackedHead, PackedLinear
from rank_search.adapters.lora import base_models, lora_config, stored_transposed
from rank_search.adapters.members import TrainableParameters
from rank_search.adapters.rows import RowRouter
from rank_search.adapters.saving import Adapter, Adapters
from rank_search.adapters.scale import module_scale
from rank_search.core.module_names import layer_of
from rank_search.core.ranks import RankMap
from rank_search.models.modules import linear_modules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor
    from torch.utils.hooks import RemovableHandle

    from rank_search.adapters.members import Member
    from rank_search.config import AdapterConfig


class Pack:
    """Adapters side by side in frozen base models; each map's adapter works on that map's rows.

    Args:
        models: base models by the prefix of their module names.
        largest: the largest rank that any map has in each module.
        count: number of maps, and so of adapters.
        head: modules that are trained whole, on one copy for each map.

    Attributes:
        members: the maps, in the order of their rows.
    """

    def __init__(self, models: Mapping[str, nn.Module], largest: RankMap, count: int, head: Sequence[str]) -> None:
        self.members: tuple[Member, ...] = ()
        self._models = models
        self._transposed = {prefix: stored_transposed(model, largest.under(prefix)) for prefix, model in models.items()}
        self._names = {prefix: tuple(linear_modules(model)) for prefix, model in models.items()}
        self._routers = {prefix: RowRouter() for prefix in models}
        self._modules: dict[str, PackedLinear] = {}
        self._heads: dict[str, PackedHead] = {}
        self._handles: list[RemovableHandle] = []
        for prefix, model in models.items():
            shapes, router = linear_modules(model), self._routers[prefix]
            for name, rank in largest.under(prefix).adapted.items():
                base = model.get_submodule(name)
                self._modules[prefix + name] = PackedLinear(base, shapes[name], count, rank, router)
            for name in head:
                base = model.get_submodule(name)
                copies = [copy.deepcopy(base).requires_grad_() for _ in range(count)]
                self._heads[prefix + name] = PackedHead(base, copies, router)
        by_map = [[self._parameters_in(prefix, k) for prefix in models] for k in range(count)]
        self._trainable = [[parameters for parameters in found if parameters.all] for found in by_map]

    def inject(self) -> None:
        """Replaces modules of the base models by the packed ones."""
        for prefix, model in self._models.items():
            layers = {layer_of(name) for name in linear_modules(model) if layer_of(name) != name}
            self._handles += self._routers[prefix].attach(model, prefix, layers)
            for name, module in self._packed_modules(prefix).items():
                model.set_submodule(name, module)

    def remove(self) -> None:
        """Puts the base models' own modules back."""
        for handle in self._handles:
            handle.remove()
        for prefix, model in self._models.items():
            for name, module in self._packed_modules(prefix).items():
                model.set_submodule(name, module.base)

    def _packed_modules(self, prefix: str) -> dict[str, PackedLinear | PackedHead]:
        """The packed modules of one base model, by their name in that model."""
        modules: dict[str, PackedLinear | PackedHead] = {**self._modules, **self._heads}
        return {name.removeprefix(prefix): module for name, module in modules.items() if name.startswith(prefix)}

    def _parameters_in(self, prefix: str, k: int) -> TrainableParameters:
        """The trainable parameters of one adapter in one base model."""
        adapter: list[nn.Parameter] = []
        head: list[nn.Parameter] = []
        for module in self._packed_modules(prefix).values():
            if isinstance(module, PackedHead):
                head += module.copies[k].parameters()
            else:
                adapter += [_view(module.A, k), _view(module.B, k)]
        return TrainableParameters(adapter, head)

    def assign(self, members: Sequence[Member]) -> None:
        """Sets which maps are in the batch, in the order of their rows; each uses the adapter of its number."""
        self.members = tuple(members)
        device = next(self._models[next(iter(self._models))].parameters()).device
        generators = [torch.Generator(device).manual_seed(member.seed) for member in members]
        dropout = [member.config.dropout for member in members]
        adapted_layers: dict[str, set[int]] = {}
        for name, module in self._modules.items():
            ranks = [member.rank_map.ranks.get(name, 0) for member in members]
            scales = [
                module_scale(member.config, rank) if rank else 0.0 for member, rank in zip(members, ranks, strict=True)
            ]
            module.assign(ranks, scales, dropout, generators)
            adapted_layers.setdefault(layer_of(name), set()).update(k for k, rank in enumerate(ranks) if rank)
        for name in self._heads:
            adapted_layers.setdefault(layer_of(name), set()).update(range(len(members)))
        for router in self._routers.values():
            router.reset(len(members), adapted_layers)

    def initialise(self, k: int, member: Member, directions: Mapping[str, Tensor] | None) -> None:
        """Sets one adapter to a map's initial weights."""
        generator = torch.Generator().manual_seed(member.seed)
        with torch.no_grad():
            for name, rank in member.rank_map.adapted.items():
                module = self._modules[name]
                if member.init is not None:
                    a, b = (weight.to(module.A) for weight in member.init.factors[name])
                    module.A[k, :, :rank], module.B[k, :rank] = a[:, :rank], b[:rank]
                else:
                    a = _initial_a(rank, module.A.shape[1], member.config, generator, (directions or {}).get(name))
                    module.A[k, :, :rank] = a.T.to(module.A)
            for name, weights in (member.init.head if member.init else {}).items():
                self._heads[name].copies[k].load_state_dict(dict(weights))

    @property
    def active(self) -> list[int]:
        """Numbers of the maps that are in the batch now."""
        return [*next(iter(self._routers.values())).active]

    def keep(self, active: Sequence[int]) -> None:
        """Takes all other maps out of the batch; their adapters stay as they are."""
        for router in self._routers.values():
            router.active = [*active]

    def compute_in(self, dtype: torch.dtype) -> None:
        """Sets the type in which adapters are multiplied; their weights stay in float32."""
        for router in self._routers.values():
            router.dtype = dtype

    def train(self, *, dropout: bool) -> None:
        """Switches the adapters' dropout on or off; the frozen base stays in evaluation mode."""
        for module in self._modules.values():
            module.training = dropout

    def trainable(self, k: int) -> list[TrainableParameters]:
        """The trainable parameters of one adapter and its head, by base model.

        A and B are views of the stacks that hold all adapters.
        """
        return self._trainable[k]

    def state(self) -> dict[str, Tensor]:
        """Every trained tensor by a unique name; the tensors themselves, not copies."""
        stacks = {f"{name}.{letter}": getattr(m, letter) for name, m in self._modules.items() for letter in "AB"}
        heads = {f"{name}.{key}": w for name, m in self._heads.items() for key, w in m.copies.state_dict().items()}
        return {name: tensor.detach() for name, tensor in {**stacks, **heads}.items()}

    def adapters(self, k: int, sources: Mapping[str, str]) -> Adapters:
        """Copies a map's adapter out of the pack, in PEFT's form.

        Args:
            k: number of the map.
            sources: where each base model comes from, by its prefix; written for whoever loads the adapter.
        """
        member = self.members[k]
        found = {}
        for prefix in self._models:
            ranks = member.rank_map.under(prefix)
            packed_modules = self._packed_modules(prefix)
            heads = {name: module for name, module in packed_modules.items() if isinstance(module, PackedHead)}
            if not ranks.adapted and not heads:
                continue
            config = lora_config(
                ranks,
                member.config,
                base_model=sources.get(prefix),
                head=list(heads),
                fan_in_fan_out=self._transposed[prefix],
                others=self._names[prefix],
            )
            tensors = {}
            for name, rank in ranks.adapted.items():
                module = self._modules[prefix + name]
                tensors[f"{name}.lora_A.weight"] = module.A[k, :, :rank].T
                tensors[f"{name}.lora_B.weight"] = module.B[k, :rank].T
            for name, head in heads.items():
                tensors |= {f"{name}.{key}": weight for key, weight in head.copies[k].state_dict().items()}
            found[prefix] = Adapter.from_weights(config, tensors)
        return Adapters(found)


@contextmanager
def packed(
    backbone: nn.Module,
    members: Sequence[Member],
    head: Sequence[str] = (),
    directions: Mapping[str, Tensor] | None = None,
) -> Iterator[Pack]:
    """Injects the adapters of several maps into frozen base models, and removes them at the end.

    By default A is drawn by the study's init rule and B is zero, so the models' output is unchanged. `Member.init`
    overrides both.

    Args:
        backbone: the base model, or a ``ModuleDict`` of several.
        members: the maps.
        head: modules that are trained whole, on one copy for each map.
        directions: for ``init.method: eva``, the result of `eva_directions`.
    """
    largest: dict[str, int] = {}
    for member in members:
        for name, rank in member.rank_map.ranks.items():
            largest[name] = max(rank, largest.get(name, 0))
    pack = Pack(base_models(backbone), RankMap(largest), len(members), head)
    try:
        pack.inject()
        pack.assign(members)
        for k, member in enumerate(members):
            pack.initialise(k, member, directions)
        yield pack
    finally:
        pack.remove()


def _view(stack: nn.Parameter, k: int) -> nn.Parameter:
    """One map's part of a stack as a parameter; its gradient is a view of the stack's gradient."""
    if stack.grad is None:
        stack.grad = torch.zeros_like(stack)
    view = nn.Parameter(stack.detach()[k])
    view.grad = stack.grad[k]
    return view


def _initial_a(
    rank: int, features: int, config: AdapterConfig, generator: torch.Generator, directions: Tensor | None
) -> Tensor:
    """A ``[rank, in]`` by the study's init rule; names and distributions are PEFT's."""
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
