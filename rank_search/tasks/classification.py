"""Classification task: a new head on the base model is trained together with the adapters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from rank_search.core.evaluation import Evaluation
from rank_search.data.splits import selection_of
from rank_search.tasks.augmentation import augment_texts, load_augmentation
from rank_search.tasks.base import BatchShape, Example, MarkedText, Output, examples_to_show
from rank_search.tasks.batching import (
    CALIBRATION_BATCHES,
    check_batch_size,
    in_batches,
    model_inputs,
    repeat_copies,
    split_copies,
    tokenise,
    training_indices,
)
from rank_search.tasks.metrics import macro_f1, matthews_correlation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from rank_search.config import ClassificationConfig, TrainingConfig
    from rank_search.core.evaluation import Split
    from rank_search.data.labelled import LabelledText
    from rank_search.data.splits import Splits
    from rank_search.models.load import LoadedModel


@dataclass(frozen=True)
class ClassificationBatch:
    """A batch of texts and their classes.

    Attributes:
        inputs: ``input_ids`` and ``attention_mask``, both ``[batch, length]``.
        labels: class numbers, ``[batch]``.
    """

    inputs: dict[str, Tensor]
    labels: Tensor


class ClassificationTask:
    """Sequence classification; implements `rank_search.tasks.base.Task`.

    Raises:
        InputError: a batch is larger than the training split.
    """

    def __init__(
        self,
        settings: ClassificationConfig,
        training: TrainingConfig,
        data: Splits[LabelledText],
        classifier: LoadedModel,
    ) -> None:
        self._settings = settings
        self._training = training
        self._data = data
        self._classifier = classifier
        self._augment = load_augmentation(training)
        check_batch_size(training, len(data.train))
        self.classes = tuple(class_names(data))
        number = {name: i for i, name in enumerate(self.classes)}
        self._tokens: dict[str, list[list[int]]] = {}
        self._labels: dict[str, list[int]] = {}
        truncated_total = 0
        for part in ("train", "validation", "test"):
            examples: Sequence[LabelledText] = getattr(data, part)
            self._tokens[part], truncated = self._tokenise([example.text for example in examples])
            self._labels[part] = [number[example.label] for example in examples]
            truncated_total += truncated
        self.cut: Mapping[str, tuple[int, int]] = {"texts": (truncated_total, sum(map(len, self._tokens.values())))}
        self.head = _trained_modules(classifier)
        if classifier.model.dtype != torch.float32:
            _keep_in_float32(classifier.model, self.head)

    @property
    def backbone(self) -> nn.Module:
        """The classifier with its head."""
        return self._classifier.model

    @property
    def fingerprint(self) -> str:
        """A digest of the base model's weights."""
        return self._classifier.fingerprint

    @property
    def data_fingerprint(self) -> str:
        """A digest that changes with any text or split of the data."""
        return self._data.fingerprint

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user: what the data loses, what its parts share, what a model's files leave open."""
        return self._data.notes

    def training_batches(self, steps: int, seed: int, *, augmented: bool = False) -> Iterator[ClassificationBatch]:
        """Yields shuffled texts; a batch holds texts of similar length."""
        tokens, labels = self._tokens["train"], self._labels["train"]
        size = self._training.batch_size
        for number, batch in enumerate(training_indices([len(ids) for ids in tokens], size, steps, seed)):
            ids = [tokens[i] for i in batch]
            if augmented and self._augment:
                texts = augment_texts(self._augment, [self._data.train[i].text for i in batch], seed, number)
                ids, _ = self._tokenise(texts)
            yield ClassificationBatch(self._inputs(ids), torch.tensor([labels[i] for i in batch], device=self._device))

    def batch_shapes(self, batch: ClassificationBatch) -> dict[str, list[BatchShape]]:
        """The shape of the texts."""
        return {"": [BatchShape.from_inputs(batch.inputs)]}

    def loss(self, batch: ClassificationBatch, copies: int = 1) -> Tensor:
        """Mean cross-entropy of the classes, for each adapter."""
        logits = self._logits(batch.inputs, copies)
        labels = batch.labels.expand(copies, -1)
        return functional.cross_entropy(logits.mT, labels, reduction="none").mean(dim=1)

    def examples_in(self, split: Split) -> int:
        """The number of texts."""
        return len(self._labels[split])

    def size(self, split: Split) -> int:
        """The number of texts."""
        return len(self._tokens[split])

    @torch.inference_mode()
    def evaluate(self, split: Split, copies: int = 1) -> list[Evaluation]:
        """Predicts the most likely class of each text, and scores it."""
        tokens = self._tokens[split]

        def compute(positions: list[int]) -> Sequence[Tensor]:
            return self._logits(self._inputs([tokens[i] for i in positions]), copies).cpu().unbind(dim=1)

        size = self._training.eval_batch_size
        logits = torch.stack(in_batches([len(ids) for ids in tokens], size, compute, copies), dim=1)
        labels = self._labels[split]
        selection = selection_of(self._data, split)
        return [
            Evaluation(
                self._settings.metric,
                _scored_apart(scores, labels, len(labels) - selection),
                scores.argmax(dim=1).tolist(),
                selection,
            )
            for scores in logits
        ]

    def _logits(self, rows: dict[str, Tensor], copies: int) -> Tensor:
        """Logits ``[copies, rows, classes]`` in float32."""
        logits: Tensor = self._classifier.model(**repeat_copies(rows, copies)).logits
        return split_copies(logits.float(), copies)

    def calibration_batches(self, seed: int) -> dict[str, list[dict[str, Tensor]]]:
        """The inputs of the first training batches."""
        return {"": [batch.inputs for batch in self.training_batches(CALIBRATION_BATCHES, seed)]}

    def examples(self, split: Split, before: Evaluation, after: Evaluation) -> list[Example]:
        """The texts with the largest gain, the median gain and the largest loss."""
        data: Sequence[LabelledText] = getattr(self._data, split)

        def output(evaluation: Evaluation, i: int) -> Output:
            name = self.classes[evaluation.outputs[i]]
            return Output(answer=MarkedText(name, name == data[i].label))

        return [
            Example(title, data[i].text, data[i].label, output(before, i), output(after, i))
            for title, i in examples_to_show(before, after)
        ]

    @property
    def _device(self) -> torch.device:
        return self._classifier.model.device

    def _tokenise(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        limit = self._classifier.max_length
        return tokenise(self._classifier.tokenizer, texts, min(self._settings.length or limit, limit))

    def _inputs(self, ids: Sequence[list[int]]) -> dict[str, Tensor]:
        return model_inputs(ids, int(self._classifier.tokenizer.pad_token_id or 0), self._device)


def class_names(data: Splits[LabelledText]) -> list[str]:
    """The classes of the training split, in the order of their numbers."""
    return sorted({example.label for example in data.train})


def head_modules(model: nn.Module) -> tuple[str, ...]:
    """The top-level modules of a classifier that are not part of its base model."""
    prefix = f"{model.base_model_prefix}."
    outside = {name.partition(".")[0] for name, _ in model.named_parameters() if not name.startswith(prefix)}
    return tuple(sorted(outside))


def _trained_modules(classifier: LoadedModel) -> tuple[str, ...]:
    """The modules that are fully trained: the head, and base modules that the checkpoint has no weights for.

    An example of the latter is a pooler that the checkpoint does not contain. Its weights are drawn at random,
    and only training makes them useful.
    """
    prefix = f"{classifier.model.base_model_prefix}."
    missing = {name.rpartition(".")[0] for name in classifier.missing if name.startswith(prefix)}
    return tuple(sorted({*head_modules(classifier.model), *missing}))


def _keep_in_float32(model: nn.Module, head: Sequence[str]) -> None:
    """Converts the trained modules to float32, and their inputs: small updates would be lost in 16 bits.

    PEFT does this for its LoRA layers, but not for modules that are fully trained.
    """
    for name in head:
        module = model.get_submodule(name).float()
        module.register_forward_pre_hook(lambda _module, inputs: tuple(tensor.float() for tensor in inputs))


def _scored_apart(logits: Tensor, labels: Sequence[int], first: int) -> dict[str, list[float]]:
    """`score_classes` of the first examples and of the others, each by themselves, since not all metrics are means."""
    values = score_classes(logits[:first], labels[:first])
    if first == len(labels):
        return values
    others = score_classes(logits[first:], labels[first:])
    return {name: [*found, *others[name]] for name, found in values.items()}


def score_classes(logits: Tensor, labels: Sequence[int]) -> dict[str, list[float]]:
    """Accuracy, macro-F1 and MCC as one value per example; the mean of the values is the metric.

    Macro-F1 and MCC are not means over examples. Their values are jackknife pseudo-values (Efron &
    Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 11), shifted so that their mean is the metric.
    Their standard error is the jackknife's, and the values of two models can be compared in pairs.

    Args:
        logits: ``[examples, classes]``.
        labels: class numbers.

    Returns:
        Metric → one value per example; all NaN if any logit is not finite.
    """
    if not logits.isfinite().all():
        return {name: [float("nan")] * len(labels) for name in ("accuracy", "macro-f1", "mcc")}
    classes = logits.shape[1]
    predicted, correct = logits.argmax(dim=1), torch.tensor(labels)
    return {
        "accuracy": (predicted == correct).float().tolist(),
        "macro-f1": _pseudo_values(lambda given, true: macro_f1(given, true, classes), predicted, correct),
        "mcc": _pseudo_values(lambda given, true: matthews_correlation(given, true, classes), predicted, correct),
    }


def _pseudo_values(metric: Callable[[Tensor, Tensor], float], predicted: Tensor, correct: Tensor) -> list[float]:
    """Jackknife pseudo-values of a metric, shifted so that their mean is the metric."""
    count = len(correct)
    total = metric(predicted, correct)
    if count < 2:
        return [total] * count
    pairs = list(zip(predicted.tolist(), correct.tolist(), strict=True))

    @cache  # leaving out any example with the same two classes gives the same value
    def without(pair: tuple[int, int]) -> float:
        kept = torch.ones(count, dtype=torch.bool)
        kept[pairs.index(pair)] = False
        return metric(predicted[kept], correct[kept])

    left_out = torch.tensor([without(pair) for pair in pairs], dtype=torch.float64)
    values: list[float] = (total + (count - 1) * (left_out.mean() - left_out)).tolist()
    return values
