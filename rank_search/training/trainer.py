"""The trainer: adapters on a frozen base, and a plain loop."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from transformers import get_linear_schedule_with_warmup

from rank_search.adapters import Adapter, Adapters, adapted
from rank_search.training.result import FineTuned, TrainingFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from rank_search.config import AdapterConfig, TrainingConfig
    from rank_search.tasks.base import Task
    from rank_search.training.result import Job


def autocast(setting: str, device: torch.device) -> AbstractContextManager[Any]:
    """A context for one forward pass in bf16, or in float32 where bf16 would be slower.

    Enter it anew for each forward pass: autocast keeps the cast weights for as long as the context
    lasts, so an adapter trained inside one long context would never see its own updates.
    """
    if setting == "bf16" or (setting == "auto" and _has_bf16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def _has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def fine_tune(
    task: Task,
    job: Job,
    adapter: AdapterConfig,
    training: TrainingConfig,
    *,
    sources: Mapping[str, str],
    directions: Mapping[str, Tensor] | None = None,
    on_step: Callable[[int], None] = lambda _steps: None,
) -> FineTuned:
    """Fine-tunes one rank map and scores it on the validation split.

    AdamW on the adapters (and the task's head) alone, linear warm-up and decay, gradients of each base
    model clipped to ``max_grad_norm``. A map of zeros is not trained where there is no head: it is the base
    model, and is scored as it stands. Scores are computed without autocast: bf16 moves them by up to 0.001,
    and whoever loads the adapter would not see the same ones.

    Args:
        task: holds the frozen base model; it leaves as it came.
        job: what to train.
        adapter: scale, dropout and init of the adapters.
        training: steps, batch size and optimiser.
        sources: of each base model by its prefix, written into the saved adapters.
        directions: what `rank_search.adapters.eva_directions` found, for ``init.method: eva``.
        on_step: called after each step with the number of steps done.

    Raises:
        TrainingFailed: a loss is not finite.
    """
    started = time.perf_counter()
    with adapted(
        task.backbone,
        job.rank_map,
        adapter,
        seed=job.seed,
        sources=sources,
        head=task.head,
        directions=directions,
    ) as models:
        losses: list[float] = []
        save = None
        if models:
            losses = _train(task, list(models.values()), job.data_seed, training, on_step)
            save = Adapters({prefix: Adapter.of(model) for prefix, model in models.items()}).save
        evaluation = task.evaluate("validation")
    return FineTuned(evaluation, tuple(losses), time.perf_counter() - started, save)


def _train(
    task: Task,
    models: Sequence[nn.Module],
    data_seed: int,
    training: TrainingConfig,
    on_step: Callable[[int], None],
) -> list[float]:
    """Trains the models' trainable parameters in place and returns the loss of each step."""
    groups = [[parameter for parameter in model.parameters() if parameter.requires_grad] for model in models]
    parameters = [parameter for group in groups for parameter in group]
    device = parameters[0].device
    optimiser = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay, fused=True)
    warmup = min(round(training.warmup * training.steps), training.steps - 1)
    schedule = get_linear_schedule_with_warmup(optimiser, warmup, training.steps)  # type: ignore[no-untyped-call]
    losses = []
    _set_dropout(models, training=True)
    batches = task.training_batches(training.steps, data_seed, augmented=training.augmentation != "none")
    for step, batch in enumerate(batches, start=1):
        with autocast(training.autocast, device):
            loss = task.loss(batch)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise TrainingFailed(f"the loss is {losses[-1]} at step {step}; lower the learning rate or alpha")
        loss.backward()  # type: ignore[no-untyped-call]
        for group in groups:
            torch.nn.utils.clip_grad_norm_(group, training.max_grad_norm)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        on_step(step)
    _set_dropout(models, training=False)
    return losses


def _set_dropout(models: Sequence[nn.Module], *, training: bool) -> None:
    """Switches the adapters' dropout alone: the frozen base stays in evaluation mode."""
    for model in models:
        for name, module in model.named_modules():
            if name.rpartition(".")[0].endswith("lora_dropout"):
                module.train(training)
