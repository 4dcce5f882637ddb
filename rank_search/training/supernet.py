"""One adapter for every rank map: trained so that truncating it gives a usable adapter of any map.

DyLoRA (arXiv:2210.07558) trains one adapter so that its first components serve at any rank; here each module is
truncated by itself, as in slimmable networks, whose sandwich rule (arXiv:1903.05134) says which maps each step
trains: the smallest, the largest, and some drawn by chance.
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

from rank_search.adapters import Member, Start, base_models, packed
from rank_search.core.errors import TrainingFailed
from rank_search.core.files import whole_file
from rank_search.training.attention import eager_where_short
from rank_search.training.optimiser import Descent
from rank_search.training.precision import frozen_in, training_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from rank_search.adapters import Pack
    from rank_search.config import StudyConfig
    from rank_search.core.ranks import RankMap
    from rank_search.core.space import Space
    from rank_search.tasks.base import Task

_DRAWN = 2  # maps that each step draws by chance
_CHECKPOINT = 60.0  # seconds of training that a kill may cost
_OPTIMISER = "optimiser."


class Nested:
    """The super-adapter of a study, which is a file beside its database.

    Args:
        task: holds the frozen base model; it leaves as it came.
        space: what is searched.
        config: the study file; its own settings hold, not those that are searched beside the ranks.
        file: safetensors; the adapter with the optimiser's memory, while that is needed.
        directions: for ``init.method: eva``, what `rank_search.adapters.eva_directions` found.
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
        """Trains the super-adapter, or goes on with it; nothing where it is trained already.

        Args:
            seed: draws the fresh adapter, its dropout, and the maps of each step.
            data_seed: draws the order of the batches.
            on_step: called with the number of steps done, and of all.

        Raises:
            TrainingFailed: the loss is not finite.
        """
        steps = self._training.steps
        done = self._steps_done()
        if done == steps:
            return
        with self._put_in(seed) as pack:
            descent = Descent.of(pack.trained(0), self._training)
            if done:
                self._restore(pack, descent, done)
            augmented = self._training.augmentation != "none"
            saved = time.monotonic()
            for step, batch in enumerate(self._task.training_batches(steps, data_seed, augmented=augmented), start=1):
                if step <= done:
                    continue
                maps = self._maps(seed, step)
                members = [self._member(ranks, _seed(seed, step, i)) for i, ranks in enumerate(maps)]
                pack.assign(members, [0] * len(members))
                pack.train(dropout=True)
                loss = self._task.loss(batch, len(members)).mean()
                if not math.isfinite(loss.item()):
                    raise TrainingFailed(f"the super-adapter's loss is {loss.item()} at step {step}", "not finite")
                loss.backward()  # type: ignore[no-untyped-call]
                descent.step()
                if time.monotonic() - saved > _CHECKPOINT:
                    self._save({**pack.state(), **descent.state()}, step)
                    saved = time.monotonic()
                on_step(step, steps)
            self._save(pack.state(), steps)

    def score(self, maps: Sequence[RankMap]) -> list[float]:
        """Scores of maps on the validation split, each by truncating the super-adapter, side by side.

        They are computed in the type in which adapters are trained: they only have to put maps in order.
        """
        with self._put_in(0) as pack:
            self._restore(pack, None, self._training.steps)
            pack.assign([self._member(ranks, 0) for ranks in maps], [0] * len(maps))
            return [evaluation.score for evaluation in self._task.evaluate("validation", len(maps))]

    def start(self) -> Start:
        """For fine-tunes that start from it, with a fresh head."""
        state = self._load()
        return Start({name: (state[f"{name}.A"][0], state[f"{name}.B"][0]) for name in self._space.shapes})

    def energies(self) -> dict[str, list[float]]:
        """Module → ‖a‖² ‖b‖² of each component: how much of the change it makes."""
        found: dict[str, list[float]] = {}
        for name, (a, b) in self.start().factors.items():
            found[name] = (a.square().sum(dim=0) * b.square().sum(dim=1)).tolist()
        return found

    @contextmanager
    def _put_in(self, seed: int) -> Iterator[Pack]:
        """The adapter in its base model, which computes as in training."""
        backbone = self._task.backbone
        dtype = training_dtype(self._training.precision, next(backbone.parameters()).device)
        largest = self._member(self._space.uniform(self._space.ladder[-1]), seed)
        with ExitStack() as stack:
            pack = stack.enter_context(packed(backbone, [largest], self._task.head, self._directions))
            stack.enter_context(frozen_in(backbone, dtype))
            stack.enter_context(eager_where_short(base_models(backbone), dtype))
            pack.compute_in(dtype)
            yield pack

    def _maps(self, seed: int, step: int) -> list[RankMap]:
        """The maps that one step trains, by the sandwich rule.

        A map drawn by chance first draws how large it is to be, so that small maps, on which a front
        begins, come up as often as large ones.
        """
        draw = Random(f"{seed} {step}")
        ladder = self._space.ladder
        maps = [self._space.uniform(ladder[-1]), self._space.uniform(next(rank for rank in ladder if rank))]
        for _ in range(_DRAWN):
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
    def _restore(self, pack: Pack, descent: Descent | None, steps: int) -> None:
        saved = self._load()
        for name, tensor in pack.state().items():
            tensor.copy_(saved[name])
        if descent is not None:
            descent.restore({name: value for name, value in saved.items() if name.startswith(_OPTIMISER)}, steps)

    def _save(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        with whole_file(self._file) as partial:
            own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(own, partial, metadata={"format": "pt", "steps": str(steps)})


def _seed(*path: int) -> int:
    """A seed for one place in the training of a super-adapter."""
    return Random(" ".join(map(str, path))).getrandbits(31)
