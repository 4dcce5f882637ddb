"""Loads the task of a study file: reads the data, then loads the models."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

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
from rank_search.models.checks import check_vocabulary
from rank_search.models.load import check_weights_present, embedder_class, load, skeleton
from rank_search.models.retriever import load_retriever
from rank_search.models.source import choose_device
from rank_search.tasks.classification import ClassificationTask, class_names, head_modules
from rank_search.tasks.generation import GenerationTask
from rank_search.tasks.rag import RagTask
from rank_search.tasks.retrieval import RetrievalTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rank_search.config import ModelSource, StudyConfig
    from rank_search.models.load import LoadedModel
    from rank_search.models.retriever import Retriever
    from rank_search.tasks.base import Task


def load_skeleton(config: StudyConfig) -> nn.Module:
    """Builds the modules of `Task.backbone` on the meta device, without reading weights.

    Raises:
        InputError: a model can't be found, or its architecture does not support the task.
    """
    match config.task:
        case RetrievalConfig():
            return _embedder_skeleton(config.model)
        case ClassificationConfig():
            return skeleton(config.model, AutoModelForSequenceClassification)
        case GenerationConfig():
            return skeleton(config.model, AutoModelForCausalLM)
        case RagConfig(retriever=retriever):
            with _retriever_errors():
                encoder = _embedder_skeleton(retriever)
            return nn.ModuleDict({"retriever": encoder, "generator": skeleton(config.model, AutoModelForCausalLM)})


def _embedder_skeleton(source: ModelSource) -> nn.Module:
    return skeleton(source, getattr(transformers, embedder_class(source)))


def load_task(config: StudyConfig) -> Task:
    """Reads the data, then loads the models.

    Raises:
        InputError: the data can't be read, or a model can't be loaded.
    """
    device = choose_device(config.model)
    match config.task:
        case RetrievalConfig() as settings:
            pairs = load_searchable(settings)
            return RetrievalTask(settings, config.training, pairs, _embedder(config.model, device))
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
        head = head_modules(skeleton(config.model, AutoModelForSequenceClassification, num_labels=len(classes)))
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)  # the new head is drawn at random, the same for every trial
        classifier = load(
            config.model,
            AutoModelForSequenceClassification,
            device,
            uncompressed=head,
            num_labels=len(classes),
            id2label=dict(enumerate(classes)),
            label2id=numbers,
            problem_type="single_label_classification",
            ignore_mismatched_sizes=True,  # a head for other classes is replaced
        )
    prefix = f"{classifier.model.base_model_prefix}."
    check_weights_present(config.model, [name for name in classifier.missing if name.startswith(prefix)])
    return ClassificationTask(settings, config.training, data, classifier)


def load_generator(config: StudyConfig, device: torch.device) -> LoadedModel:
    """Loads the causal LM that ``model`` names.

    Raises:
        InputError: the model is not a causal LM; transformers would load an encoder with a random head.
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
            f"{config.model.source!r} sees the tokens that it must predict, as masked LMs do; name a causal LM",
            field="model.source",
        )
    return loaded


@torch.inference_mode()
def _is_causal(model: nn.Module) -> bool:
    """Whether the prediction after a token is independent of the tokens that follow."""
    device = next(model.parameters()).device
    first, second = (model(torch.tensor([[5, 6, last]], device=device)).logits[0, :2] for last in (7, 8))
    return torch.allclose(first, second, atol=1e-3)


def _retriever(source: ModelSource, device: torch.device) -> Retriever:
    with _retriever_errors():
        return _embedder(source, device)


def _embedder(source: ModelSource, device: torch.device) -> Retriever:
    retriever = load_retriever(source, device)
    check_vocabulary(source, retriever.encoder.backbone, retriever.tokenizer)
    return retriever


@contextmanager
def _retriever_errors() -> Iterator[None]:
    """Makes errors about the fields of ``model`` name the fields of ``task.retriever`` instead."""
    try:
        yield
    except InputError as error:
        field = (error.field or "").replace("model.", "task.retriever.", 1)
        raise InputError(error.problem, field=field, file=error.file) from error
