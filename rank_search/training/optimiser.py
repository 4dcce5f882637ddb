"""The optimiser of one adapter, with its learning-rate schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import get_linear_schedule_with_warmup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rank_search.adapters import TrainableParameters
    from rank_search.config import TrainingConfig


class AdapterOptimiser:
    """AdamW with linear warm-up and decay on one adapter, and on its head if there is one.

    Args:
        trainable: the parameters, by base model.
        training: learning rates, weight decay, number of steps, and the norm to which the gradient of each base
            model is clipped.
    """

    def __init__(self, trainable: Sequence[TrainableParameters], training: TrainingConfig) -> None:
        self._trainable = trainable
        self._max_grad_norm = training.max_grad_norm
        groups = [
            {"params": [weight for part in trainable for weight in part.adapter], "lr": training.learning_rate},
            {"params": [weight for part in trainable for weight in part.head], "lr": training.rate_of_head},
        ]
        self._adamw = torch.optim.AdamW(groups, weight_decay=training.weight_decay, fused=True)
        warmup = min(round(training.warmup * training.steps), training.steps - 1)
        self._schedule: torch.optim.lr_scheduler.LambdaLR = get_linear_schedule_with_warmup(  # type: ignore[no-untyped-call]
            self._adamw, warmup, training.steps
        )

    @property
    def learning_rates(self) -> tuple[float, float]:
        """Learning rates of the next step: the adapter's and the head's."""
        adapter, head = (group["lr"] for group in self._adamw.param_groups)
        return adapter, head

    def step(self, before_zero_grad: Callable[[], None] = lambda: None) -> None:
        """Clips the gradient of each base model, takes one step, and sets the gradient to zero.

        Args:
            before_zero_grad: called after the weights have changed, while the gradient is still there.
        """
        for part in self._trainable:
            torch.nn.utils.clip_grad_norm_(part.all, self._max_grad_norm)
        self._adamw.step()
        before_zero_grad()
        self._schedule.step()
        # Gradients are views of a stack that all maps of a pack share, so they must not be replaced by None.
        self._adamw.zero_grad(set_to_none=False)
