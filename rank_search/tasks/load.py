"""From a study file to its task: data read, models loaded."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from rank_search.config import (
    ClassificationConfig,
    GenerationConfig,
    RagConfig,
    RetrievalConfig,
)
from rank_search.core.errors import InputError
from rank_search.data.answered import load_answered
from rank_search.data.labelled import load_labelled
from rank_search.data.searchable import load_searchable
from rank_search.models.load import load, refuse_missing, skeleton
from rank_search.models.retriever import load_retriever
from rank_search.models.source import choose_device
from rank_search.tasks.classification import ClassificationTask, class_names, outside_base
from rank_search.tasks.generation import GenerationTask
from rank_search.tasks.rag import RagTask
from rank_search.tasks.retrieval import RetrievalTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rank_search.config import ModelSource, StudyConfig
    from rank_search.models.load import Loaded
    from rank_search.models.retriever import Retriever
    from rank_search.tasks.base import Task


def load_skeleton(config: StudyConfig) -> nn.Module:
    """What `Task.backbone` will be, on the meta device, before any weights are read.

    Raises:
        InputError: a model can't be found, or its kind can't do the task.
    """
    match config.task:
        case RetrievalConfig():
            return skeleton(config.model, AutoModel)
        case ClassificationConfig():
            return skeleton(config.model, AutoModelForSequenceClassification)
        case GenerationConfig():
            return skeleton(config.model, AutoModelForCausalLM)
        case RagConfig(retriever=retriever):
            with _of_the_retriever():
                encoder = skeleton(retriever, AutoModel)
            return nn.ModuleDict({"retriever": encoder, "generator": skeleton(config.model, AutoModelForCausalLM)})


def load_task(config: StudyConfig) -> Task:
    """Reads the data, then loads the models.

    Raises:
        InputError: data or models are wrong.
    """
    device = choose_device(config.model)
    match config.task:
        case RetrievalConfig() as settings:
            pairs = load_searchable(settings)
            return RetrievalTask(settings, config.training, pairs, load_retriever(config.model, device))
        case ClassificationConfig() as settings:
            return _classification(config, settings, device)
        case GenerationConfig() as settings:
            questions = load_answered(settings)
            retriever = _retriever(settings.retriever, device) if settings.retriever else None
            generator = load_generator(config, device)
            return GenerationTask(settings, config.training, questions, generator, retriever)
        case RagConfig() as settings:
            questions = load_answered(settings)
            retriever = _retriever(settings.retriever, device)
            generator = load_generator(config, device)
            return RagTask(settings, config.training, questions, retriever, generator)


def _classification(config: StudyConfig, settings: ClassificationConfig, device: torch.device) -> ClassificationTask:
    data = load_labelled(settings)
    classes = class_names(data)
    numbers = {name: i for i, name in enumerate(classes)}
    head: tuple[str, ...] = ()
    if config.model.quantization != "none":
        head = outside_base(skeleton(config.model, AutoModelForSequenceClassification, num_labels=len(classes)))
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)  # draws the fresh head, the same for every trial
        classifier = load(
            config.model,
            AutoModelForSequenceClassification,
            device,
            whole=head,
            num_labels=len(classes),
            id2label=dict(enumerate(classes)),
            label2id=numbers,
            problem_type="single_label_classification",
            ignore_mismatched_sizes=True,  # a head for other classes is replaced
        )
    inside = f"{classifier.model.base_model_prefix}."
    refuse_missing(config.model, [name for name in classifier.missing if name.startswith(inside)])
    return ClassificationTask(settings, config.training, data, classifier)


def load_generator(config: StudyConfig, device: torch.device) -> Loaded:
    """Loads the causal LM that ``model`` names.

    Raises:
        InputError: it is not one: transformers would give an encoder a random head.
    """
    loaded = load(config.model, AutoModelForCausalLM, device)
    if loaded.missing:
        raise InputError(
            f"{config.model.source!r} lacks weights such as {min(loaded.missing)!r} and can't generate; "
            "name a causal LM",
            field="model.source",
        )
    if not _is_causal(loaded.model):
        raise InputError(
            f"{config.model.source!r} sees the words that it is to predict, as masked LMs do; name a causal LM",
            field="model.source",
        )
    return loaded


@torch.inference_mode()
def _is_causal(model: nn.Module) -> bool:
    """Whether what a model predicts after a token is the same whatever comes later."""
    device = next(model.parameters()).device
    one, other = (model(torch.tensor([[5, 6, last]], device=device)).logits[0, :2] for last in (7, 8))
    return torch.allclose(one, other, atol=1e-3)


def _retriever(source: ModelSource, device: torch.device) -> Retriever:
    with _of_the_retriever():
        return load_retriever(source, device)


@contextmanager
def _of_the_retriever() -> Iterator[None]:
    """Says of the retriever's fields what is said of a model's."""
    try:
        yield
    except InputError as error:
        field = (error.field or "").replace("model.", "task.retriever.", 1)
        raise InputError(error.problem, field=field, file=error.file) from error
