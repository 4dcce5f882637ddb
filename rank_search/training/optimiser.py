"""How one adapter goes along its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import get_linear_schedule_with_warmup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from rank_search.adapters import Trained
    from rank_search.config import TrainingConfig


@dataclass(frozen=True)
class Descent:
    """AdamW with linear warm-up and decay on one adapter, and on a head where there is one.

    Attributes:
        trained: its parameters, by base model.
        optimiser: of all of them.
        schedule: of the learning rate.
        max_grad_norm: to which the gradient of each base model is clipped.
    """

    trained: Sequence[Trained]
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    max_grad_norm: float

    @classmethod
    def of(cls, trained: Sequence[Trained], training: TrainingConfig) -> Descent:
        """At its start."""
        groups = [
            {"params": [weight for each in trained for weight in each.adapter], "lr": training.learning_rate},
            {"params": [weight for each in trained for weight in each.head], "lr": training.rate_of_head},
        ]
        optimiser = torch.optim.AdamW(groups, weight_decay=training.weight_decay, fused=True)
        warmup = min(round(training.warmup * training.steps), training.steps - 1)
        schedule = get_linear_schedule_with_warmup(optimiser, warmup, training.steps)  # type: ignore[no-untyped-call]
        return cls(trained, optimiser, schedule, training.max_grad_norm)

    def step(self, afterwards: Callable[[], None] = lambda: None) -> None:
        """One step along the gradient, which is clipped for each base model, and forgotten in the end.

        Args:
            afterwards: called while the gradient is still there.
        """
        for each in self.trained:
            torch.nn.utils.clip_grad_norm_(each.all, self.max_grad_norm)
        self.optimiser.step()
        afterwards()
        self.schedule.step()
        # Gradients are parts of a stack that all maps of a pack share, so they stay where they are.
        self.optimiser.zero_grad(set_to_none=False)

    def state(self) -> dict[str, Tensor]:
        """The optimiser's memory, by names of its own."""
        of_parameter = self.optimiser.state_dict()["state"]
        return {f"optimiser.{i}.{key}": value for i, of in of_parameter.items() for key, value in of.items()}

    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Goes on from a `state` that was taken after so many steps."""
        of_parameter: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            _, i, key = name.split(".")
            of_parameter.setdefault(int(i), {})[key] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": of_parameter})
        self.schedule.last_epoch = steps
        for group, peak, share in zip(
            self.optimiser.param_groups, self.schedule.base_lrs, self.schedule.lr_lambdas, strict=True
        ):
            group["lr"] = peak * share(steps)
