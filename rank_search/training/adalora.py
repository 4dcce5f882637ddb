"""AdaLoRA (arXiv:2303.10512) by PEFT, as a user would run it instead of a search: one training that prunes ranks."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from peft import get_peft_model
from peft.tuners.adalora.layer import AdaLoraLayer

from rank_search.adapters import (
    ADAPTER,
    Start,
    Trained,
    adalora_config,
    base_models,
    known_warnings,
    restored,
    stored_transposed,
)
from rank_search.core.errors import TrainingFailed
from rank_search.core.ranks import RankMap
from rank_search.training.attention import eager_where_short
from rank_search.training.optimiser import Descent
from rank_search.training.precision import frozen_in, training_dtype
from rank_search.training.trainer import out_of_time, score

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from rank_search.config import StudyConfig
    from rank_search.core.job import FineTuned, Job, OnStep
    from rank_search.tasks.base import Task

# PEFT leaves the attributes of its models and layers untyped.
AdaLoraModel = Any

_LEAST_STEPS = 4  # so that pruning has a beginning and an end
# Between two small matrices, singular values that start at zero learn slowly. Times the study's learning rate: on the
# demo AdaLoRA learns nothing with 1, as much as LoRA with 5, and no more with 25.
_FASTER = 5


def train_adalora(
    task: Task, job: Job, config: StudyConfig, *, sources: Mapping[str, str], on_step: OnStep
) -> FineTuned:
    """Trains AdaLoRA to as many ranks as the job's map has, and scores what it came to.

    The result is an ordinary LoRA adapter: the singular values are multiplied into A, so that the map's price is
    counted like any other's. Each base model shares out its own ranks.

    Raises:
        TrainingFailed: the loss is not finite, its time is over, or there are too few steps.
    """
    training = config.training.with_adapters_at(_FASTER)
    if training.steps < _LEAST_STEPS:
        raise TrainingFailed(f"AdaLoRA needs {_LEAST_STEPS} steps or more")
    started = time.perf_counter()
    losses: list[float] = []
    torch.manual_seed(job.seed)
    with _put_in(task, job, config) as models:
        descent = Descent.of([_trained(model) for model in models.values()], training)
        batches = task.training_batches(training.steps, job.data_seed, augmented=training.augmentation != "none")
        for step, batch in enumerate(batches, start=1):
            (loss,) = task.loss(batch)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise TrainingFailed(
                    f"the loss is {losses[-1]} at step {step}; lower the learning rate or alpha", "not finite"
                )
            if time.perf_counter() - started > 60 * (config.search.trial_minutes or math.inf):
                raise out_of_time(config, step)
            (loss + sum(_orthogonality(model) for model in models.values())).backward()
            descent.step(partial(_allocate, models, step))
            on_step(step, losses[-1])
        rank_map, start = _taken_apart(models, job.rank_map, task.head)
    (found,) = score(task, [replace(job, rank_map=rank_map)], config, [start], sources=sources)
    return replace(found, losses=tuple(losses), seconds=time.perf_counter() - started)


def _trained(model: AdaLoraModel) -> Trained:
    """What PEFT has left open to training."""
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    head = {name for name in weights if ".modules_to_save." in name}
    return Trained([weights[name] for name in weights if name not in head], [weights[name] for name in head])


def _allocate(models: Mapping[str, AdaLoraModel], step: int) -> None:
    """Prunes as far as the schedule of each base model says."""
    for model in models.values():
        model.update_and_allocate(step)


@contextmanager
def _put_in(task: Task, job: Job, config: StudyConfig) -> Iterator[dict[str, AdaLoraModel]]:
    """AdaLoRA in each base model, which computes as in our own training; taken out again at the end."""
    dtype = training_dtype(config.training.precision, next(task.backbone.parameters()).device)
    with ExitStack() as stack:
        stack.enter_context(frozen_in(task.backbone, dtype))
        stack.enter_context(eager_where_short(base_models(task.backbone), dtype))
        models: dict[str, AdaLoraModel] = {}
        for prefix, model in base_models(task.backbone).items():
            ranks = job.rank_map.under(prefix)
            stack.enter_context(restored(model, [*ranks.adapted, *task.head]))
            settings = adalora_config(
                ranks,
                config.adapter,
                config.training.steps,
                head=task.head,
                fan_in_fan_out=stored_transposed(model, ranks),
            )
            with known_warnings():
                models[prefix] = tuned = get_peft_model(model, settings, adapter_name=ADAPTER).base_model
            stack.callback(tuned.unload)  # type: ignore[arg-type]
            model.eval()
        yield models


def _orthogonality(model: AdaLoraModel) -> Tensor:
    """How far singular vectors are from orthogonal (equation 4), as PEFT adds it to losses that models compute."""
    terms = []
    for layer in _layers(model).values():
        a, b = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
        eye = torch.eye(len(a), device=a.device)
        terms += [torch.linalg.norm(a @ a.T - eye), torch.linalg.norm(b.T @ b - eye)]
    return torch.stack(terms).mean() * model.peft_config[ADAPTER].orth_reg_weight  # type: ignore[no-any-return]


def _taken_apart(models: Mapping[str, AdaLoraModel], rank_map: RankMap, head: tuple[str, ...]) -> tuple[RankMap, Start]:
    """The ranks that are left, and the adapter as factors of LoRA at scale 1."""
    ranks = dict.fromkeys(rank_map.ranks, 0)
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    heads: dict[str, dict[str, Tensor]] = {}
    for prefix, model in models.items():
        for name, layer in _layers(model).items():
            values = layer.lora_E[ADAPTER].detach()
            (kept,) = values.flatten().nonzero(as_tuple=True)
            scale = layer.scaling[ADAPTER] / (layer.ranknum[ADAPTER].item() + 1e-5)
            a, b = layer.lora_A[ADAPTER].detach(), layer.lora_B[ADAPTER].detach()
            ranks[prefix + name] = len(kept)
            factors[prefix + name] = ((a * values)[kept].T.clone(), b[:, kept].T * scale)
        for name in head:
            trained = model.model.get_submodule(name).modules_to_save[ADAPTER]
            heads[prefix + name] = {key: weight.clone() for key, weight in trained.state_dict().items()}
    return RankMap(ranks), Start(factors, 1.0, heads)


def _layers(model: AdaLoraModel) -> dict[str, Any]:
    return {name: layer for name, layer in model.model.named_modules() if isinstance(layer, AdaLoraLayer)}
