"""The supernet: one adapter that is trained so that truncating it gives a usable adapter of any rank map.

DyLoRA (arXiv:2210.07558) trains one adapter whose first components work at any rank. Here each module is truncated
to its own rank, as in slimmable networks. Their sandwich rule (arXiv:1903.05134) says which maps each step trains:
the smallest, the largest, and some random ones.

Reports and messages call this adapter the nested super-adapter.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, contextmanager
from random import Random
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from rank_search.adapters import AdapterInit, Member, base_models, packed
from rank_search.core.errors import TrainingFailed
from rank_search.core.files import atomic_file
from rank_search.training.attention import eager_attention_if_short
from rank_search.training.optimiser import STATE_PREFIX, AdapterOptimiser
from rank_search.training.precision import frozen_weights_in, training_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from rank_search.adapters import Pack
    from rank_search.config import StudyConfig
    from rank_search.core.ranks import RankMap
    from rank_search.core.space import Space
    from rank_search.tasks.base import Task

_RANDOM_MAPS = 2  # in each step
_CHECKPOINT_SECONDS = 60.0  # a killed process loses no more training than this


class Supernet:
    """The super-adapter of a study, kept in a file beside the study's database.

    Args:
        task: holds the frozen base model; it is unchanged afterwards.
        space: what is searched.
        config: the study file. Its fixed settings are used, not those that are searched beside the ranks.
        file: a safetensors file; holds the adapter, and the optimiser's state until the training is done.
        directions: for ``init.method: eva``, the result of `rank_search.adapters.eva_directions`.
    """

    def __init__(
        self,
        task: Task,
        space: Space,
        config: StudyConfig,
        file: Path,
        directions: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._task = task
        self._space = space
        self._config = config
        self._file = file
        self._directions = directions
        steps = config.search.nested.steps or config.training.steps
        self._training = config.training.model_copy(update={"steps": steps})

    def train(self, seed: int, data_seed: int, on_step: Callable[[int, int], None]) -> None:
        """Trains the super-adapter, from its last checkpoint if there is one; does nothing if it is trained already.

        Args:
            seed: draws the initial adapter, its dropout, and the maps of each step.
            data_seed: draws the order of the batches.
            on_step: called with the number of finished steps and of all steps.

        Raises:
            TrainingFailed: the loss is not finite.
        """
        steps = self._training.steps
        done = self._steps_done()
        if done == steps:
            return
        with self._injected(seed) as pack:
            optimiser = AdapterOptimiser(pack.trainable(0), self._training)
            if done:
                self._restore(pack, optimiser, done)
            augmented = self._training.augmentation != "none"
            saved = time.monotonic()
            for step, batch in enumerate(self._task.training_batches(steps, data_seed, augmented=augmented), start=1):
                if step <= done:
                    continue
                maps = self._sandwich(seed, step)
                members = [self._member(ranks, _derive_seed(seed, step, i)) for i, ranks in enumerate(maps)]
                pack.assign(members, [0] * len(members))
                pack.train(dropout=True)
                loss = self._task.loss(batch, len(members)).mean()
                if not math.isfinite(loss.item()):
                    raise TrainingFailed(f"the super-adapter's loss is {loss.item()} at step {step}", "not finite")
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                if time.monotonic() - saved > _CHECKPOINT_SECONDS:
                    self._save({**pack.state(), **optimiser.state()}, step)
                    saved = time.monotonic()
                on_step(step, steps)
            self._save(pack.state(), steps)

    def score(self, maps: Sequence[RankMap]) -> list[float]:
        """Scores maps on the validation split, all at once, each by truncating the super-adapter.

        The scores are computed in the precision of training, because they only have to rank the maps.
        """
        with self._injected(0) as pack:
            self._restore(pack, None, self._training.steps)
            pack.assign([self._member(ranks, 0) for ranks in maps], [0] * len(maps))
            return [evaluation.score for evaluation in self._task.evaluate("validation", len(maps))]

    def adapter_init(self) -> AdapterInit:
        """The super-adapter as the initial weights of a fine-tune, with a fresh head."""
        state = self._load()
        return AdapterInit({name: (state[f"{name}.A"][0], state[f"{name}.B"][0]) for name in self._space.shapes})

    def energies(self) -> dict[str, list[float]]:
        """Module → ‖a‖² ‖b‖² of each component, a measure of how much the component changes the output."""
        found: dict[str, list[float]] = {}
        for name, (a, b) in self.adapter_init().factors.items():
            found[name] = (a.square().sum(dim=0) * b.square().sum(dim=1)).tolist()
        return found

    @contextmanager
    def _injected(self, seed: int) -> Iterator[Pack]:
        """Injects the adapter into its base model, which computes in the precision of training."""
        backbone = self._task.backbone
        dtype = training_dtype(self._training.precision, next(backbone.parameters()).device)
        largest = self._member(self._space.uniform(self._space.ladder[-1]), seed)
        with ExitStack() as stack:
            pack = stack.enter_context(packed(backbone, [largest], self._task.head, self._directions))
            stack.enter_context(frozen_weights_in(backbone, dtype))
            stack.enter_context(eager_attention_if_short(base_models(backbone), dtype))
            pack.compute_in(dtype)
            yield pack

    def _sandwich(self, seed: int, step: int) -> list[RankMap]:
        """The maps that one step trains: the largest, the smallest, and random ones.

        A random map first draws its size. So small maps, with which a front begins, are as frequent as large ones.
        """
        draw = Random(f"{seed} {step}")
        ladder = self._space.ladder
        maps = [self._space.uniform(ladder[-1]), self._space.uniform(next(rank for rank in ladder if rank))]
        for _ in range(_RANDOM_MAPS):
            size = draw.random()
            proposal = {
                dimension: sum(draw.random() < size for _ in ladder[1:]) for dimension in self._space.dimensions
            }
            maps.append(self._space.rank_map(proposal))
        return maps

    def _member(self, ranks: RankMap, seed: int) -> Member:
        return Member(ranks, self._config.adapter, seed)

    def _steps_done(self) -> int:
        if not self._file.is_file():
            return 0
        with safe_open(self._file, "pt") as file:
            return int(file.metadata()["steps"])

    def _load(self) -> dict[str, Tensor]:
        with safe_open(self._file, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    @torch.no_grad()
    def _restore(self, pack: Pack, optimiser: AdapterOptimiser | None, steps: int) -> None:
        saved = self._load()
        for name, tensor in pack.state().items():
            tensor.copy_(saved[name])
        if optimiser is not None:
            optimiser.restore({name: value for name, value in saved.items() if name.startswith(STATE_PREFIX)}, steps)

    def _save(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        with atomic_file(self._file) as partial:
            copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(copies, partial, metadata={"format": "pt", "steps": str(steps)})


def _derive_seed(*path: int) -> int:
    """The seed of one place in the training, named by a sequence of integers."""
    return Random(" ".join(map(str, path))).getrandbits(31)
