"""AdaLoRA (arXiv:2303.10512) by PEFT: one training that prunes ranks. It is a baseline that needs no search."""

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
    AdapterInit,
    TrainableParameters,
    adalora_config,
    base_models,
    known_warnings,
    stored_transposed,
)
from rank_search.core.errors import TrainingFailed
from rank_search.core.ranks import RankMap
from rank_search.models.restoring import restored
from rank_search.training.attention import eager_attention_if_short
from rank_search.training.optimiser import AdapterOptimiser
from rank_search.training.pack_training import not_finite, out_of_time
from rank_search.training.precision import frozen_weights_in, training_dtype
from rank_search.training.trainer import score

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from rank_search.config import StudyConfig
    from rank_search.core.job import FineTuned, Job, OnStep
    from rank_search.tasks.base import Task

# PEFT does not type the attributes of its models and layers.
AdaLoraModel = Any

_MIN_STEPS = 4  # fewer leave no room for warm-up, pruning and the final training
# Between two small matrices, singular values that start at zero learn slowly. This factor multiplies the study's
# learning rate: on the demo AdaLoRA learns nothing with 1, as much as LoRA with 5, and no more with 25.
_LEARNING_RATE_FACTOR = 5


def train_adalora(
    task: Task, job: Job, config: StudyConfig, *, sources: Mapping[str, str], on_step: OnStep
) -> FineTuned:
    """Trains AdaLoRA down to the total rank of the job's map, and scores the result.

    The result is an ordinary LoRA adapter: A is multiplied by the singular values. So its trainable parameters are
    counted like those of any other map. Ranks move only within a base model.

    Args:
        task: holds the frozen base model; it is unchanged afterwards.
        job: the map, with the same rank everywhere.
        config: the study file.
        sources: where each base model comes from, by its prefix; written into the saved adapter.
        on_step: called after each step.

    Raises:
        TrainingFailed: the loss is not finite, the time limit is reached, or there are too few steps.
    """
    training = config.tuned(job.settings).training.with_adapters_at(_LEARNING_RATE_FACTOR)
    if training.steps < _MIN_STEPS:
        raise TrainingFailed(f"AdaLoRA needs {_MIN_STEPS} steps or more")
    started = time.perf_counter()
    losses: list[float] = []
    torch.manual_seed(job.seed)
    with _adalora_models(task, job, config) as models:
        optimiser = AdapterOptimiser([_trainable(model) for model in models.values()], training)
        batches = task.training_batches(training.steps, job.data_seed, augmented=training.augmentation != "none")
        for step, batch in enumerate(batches, start=1):
            (loss,) = task.loss(batch)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise not_finite(losses[-1], step)
            if time.perf_counter() - started > 60 * (config.search.trial_minutes or math.inf):
                raise out_of_time(config, step)
            (loss + sum(_orthogonality(model) for model in models.values())).backward()
            optimiser.step(partial(_prune, models, step))
            on_step(step, losses[-1])
        rank_map, init = _to_lora(models, job.rank_map, task.head)
    (scored,) = score(task, [job.at(rank_map)], config, [init], sources=sources)
    return replace(scored, losses=tuple(losses), seconds=time.perf_counter() - started)


def _trainable(model: AdaLoraModel) -> TrainableParameters:
    """The parameters that PEFT has left trainable."""
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    head = {name for name in weights if ".modules_to_save." in name}
    return TrainableParameters(
        [weights[name] for name in weights if name not in head], [weights[name] for name in head]
    )


def _prune(models: Mapping[str, AdaLoraModel], step: int) -> None:
    """Prunes each base model's ranks to what its schedule says for this step."""
    for model in models.values():
        model.update_and_allocate(step)


@contextmanager
def _adalora_models(task: Task, job: Job, config: StudyConfig) -> Iterator[dict[str, AdaLoraModel]]:
    """Injects AdaLoRA into each base model, in the precision of training; removes it at the end."""
    dtype = training_dtype(config.training.precision, next(task.backbone.parameters()).device)
    with ExitStack() as stack:
        stack.enter_context(frozen_weights_in(task.backbone, dtype))
        stack.enter_context(eager_attention_if_short(base_models(task.backbone), dtype))
        models: dict[str, AdaLoraModel] = {}
        for prefix, model in base_models(task.backbone).items():
            ranks = job.rank_map.under(prefix)
            stack.enter_context(restored(model))
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
    """The penalty on singular vectors that are not orthogonal (equation 4).

    PEFT adds it only to losses that models compute themselves.
    """
    terms = []
    for layer in _layers(model).values():
        a, b = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
        eye = torch.eye(len(a), device=a.device)
        terms += [torch.linalg.norm(a @ a.T - eye), torch.linalg.norm(b.T @ b - eye)]
    return torch.stack(terms).mean() * model.peft_config[ADAPTER].orth_reg_weight  # type: ignore[no-any-return]


def _to_lora(
    models: Mapping[str, AdaLoraModel], rank_map: RankMap, head: tuple[str, ...]
) -> tuple[RankMap, AdapterInit]:
    """Returns the ranks that were not pruned, and the trained adapter as LoRA factors at scale 1."""
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
    return RankMap(ranks), AdapterInit(factors, 1.0, heads)


def _layers(model: AdaLoraModel) -> dict[str, Any]:
    return {name: layer for name, layer in model.model.named_modules() if isinstance(layer, AdaLoraLayer)}
