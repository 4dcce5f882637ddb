"""Classification: a fresh head on the base model, trained along with the adapters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn import functional
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_matthews_corrcoef

from rank_search.core.evaluation import Evaluation
from rank_search.tasks.augmentation import augment_texts, load_augmentation
from rank_search.tasks.base import Example, Output, Shown, Texts, telling
from rank_search.tasks.batching import (
    CALIBRATION_BATCHES,
    by_map,
    check_batch_size,
    in_batches,
    model_inputs,
    repeated,
    tokenise,
    training_indices,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from rank_search.config import ClassificationConfig, TrainingConfig
    from rank_search.core.evaluation import Split
    from rank_search.data.labelled import Labelled
    from rank_search.data.splits import Splits
    from rank_search.models.load import Loaded


@dataclass(frozen=True)
class LabelledBatch:
    """Texts and their classes.

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
        data: Splits[Labelled],
        classifier: Loaded,
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
        long = 0
        for part in ("train", "validation", "test"):
            examples: Sequence[Labelled] = getattr(data, part)
            self._tokens[part], cut = self._ids([of.text for of in examples])
            self._labels[part] = [number[of.label] for of in examples]
            long += cut
        self.cut: Mapping[str, tuple[int, int]] = {"texts": (long, sum(map(len, self._tokens.values())))}
        self.head = _head(classifier)
        if classifier.model.dtype != torch.float32:
            _hold_in_float32(classifier.model, self.head)

    @property
    def backbone(self) -> nn.Module:
        """The classifier, its head included."""
        return self._classifier.model

    @property
    def fingerprint(self) -> str:
        """Names the base model's weights."""
        return self._classifier.fingerprint

    @property
    def data_fingerprint(self) -> str:
        """Changes with any text or split of the data."""
        return self._data.fingerprint

    def training_batches(self, steps: int, seed: int, *, augmented: bool = False) -> Iterator[LabelledBatch]:
        """Shuffled texts; those of like length stand together."""
        tokens, labels = self._tokens["train"], self._labels["train"]
        size = self._training.batch_size
        for number, batch in enumerate(training_indices([len(ids) for ids in tokens], size, steps, seed)):
            ids = [tokens[i] for i in batch]
            if augmented and self._augment:
                texts = augment_texts(self._augment, [self._data.train[i].text for i in batch], seed, number)
                ids, _ = self._ids(texts)
            yield LabelledBatch(self._inputs(ids), torch.tensor([labels[i] for i in batch], device=self._device))

    def texts(self, batch: LabelledBatch) -> dict[str, list[Texts]]:
        """The texts."""
        return {"": [Texts.of(batch.inputs)]}

    def loss(self, batch: LabelledBatch, copies: int = 1) -> Tensor:
        """Cross-entropy of the classes."""
        logits = self._logits(batch.inputs, copies)
        labels = batch.labels.expand(copies, -1)
        return functional.cross_entropy(logits.mT, labels, reduction="none").mean(dim=1)

    def size(self, split: Split) -> int:
        """Texts."""
        return len(self._tokens[split])

    @torch.inference_mode()
    def evaluate(self, split: Split, copies: int = 1) -> list[Evaluation]:
        """Takes the most likely class of each text."""
        tokens = self._tokens[split]

        def compute(positions: list[int]) -> Sequence[Tensor]:
            return self._logits(self._inputs([tokens[i] for i in positions]), copies).cpu().unbind(dim=1)

        size = self._training.eval_batch_size
        logits = torch.stack(in_batches([len(ids) for ids in tokens], size, compute, copies), dim=1)
        labels = self._labels[split]
        return [
            Evaluation(self._settings.metric, score_classes(of, labels), of.argmax(dim=1).tolist()) for of in logits
        ]

    def _logits(self, rows: dict[str, Tensor], copies: int) -> Tensor:
        """``[copies, rows, classes]``."""
        logits: Tensor = self._classifier.model(**repeated(rows, copies)).logits
        return by_map(logits.float(), copies)

    def calibration_batches(self, seed: int) -> dict[str, list[dict[str, Tensor]]]:
        """The first training batches."""
        return {"": [batch.inputs for batch in self.training_batches(CALIBRATION_BATCHES, seed)]}

    def examples(self, split: Split, before: Evaluation, after: Evaluation) -> list[Example]:
        """The text that gained most, the one in the middle, and the one that lost most."""
        data: Sequence[Labelled] = getattr(self._data, split)

        def output(evaluation: Evaluation, i: int) -> Output:
            name = self.classes[evaluation.outputs[i]]
            return Output(answer=Shown(name, name == data[i].label))

        return [
            Example(title, data[i].text, data[i].label, output(before, i), output(after, i))
            for title, i in telling(before, after)
        ]

    @property
    def _device(self) -> torch.device:
        return self._classifier.model.device

    def _ids(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        own = self._classifier.max_length
        return tokenise(self._classifier.tokenizer, texts, min(self._settings.length or own, own))

    def _inputs(self, ids: Sequence[list[int]]) -> dict[str, Tensor]:
        return model_inputs(ids, int(self._classifier.tokenizer.pad_token_id or 0), self._device)


def class_names(data: Splits[Labelled]) -> list[str]:
    """The classes of the training split, in the order of their numbers."""
    return sorted({of.label for of in data.train})


def outside_base(model: nn.Module) -> tuple[str, ...]:
    """The modules of a classifier that stand outside its base model."""
    inside = f"{model.base_model_prefix}."
    outside = {name.partition(".")[0] for name, _ in model.named_parameters() if not name.startswith(inside)}
    return tuple(sorted(outside))


def _head(classifier: Loaded) -> tuple[str, ...]:
    """The modules outside the base model, and those within it that the source has no weights for.

    The latter are, for example, a pooler that the checkpoint was saved without: drawn at random, it would
    be noise unless it is trained.
    """
    inside = f"{classifier.model.base_model_prefix}."
    lacking = {name.rpartition(".")[0] for name in classifier.missing if name.startswith(inside)}
    return tuple(sorted({*outside_base(classifier.model), *lacking}))


def _hold_in_float32(model: nn.Module, head: Sequence[str]) -> None:
    """Weights that are trained are float32, whatever type the frozen ones have: small steps would be lost.

    PEFT sees to that for its LoRA layers, not for modules that are trained whole.
    """
    for name in head:
        module = model.get_submodule(name).float()
        module.register_forward_pre_hook(lambda _module, inputs: tuple(each.float() for each in inputs))


def score_classes(logits: Tensor, labels: Sequence[int]) -> dict[str, list[float]]:
    """Accuracy, macro-F1 and MCC, one value an example, whose means are the metrics.

    Macro-F1 and MCC are not means over examples. Their values here are jackknife pseudo-values (Efron &
    Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 11), moved so that their mean is the metric:
    their standard error is the jackknife's, and values of two models may be compared in pairs.

    Args:
        logits: ``[examples, classes]``.
        labels: class numbers.

    Returns:
        Metric → a value for each example; NaN where a logit is.
    """
    if not logits.isfinite().all():
        return {name: [float("nan")] * len(labels) for name in ("accuracy", "macro-f1", "mcc")}
    classes = logits.shape[1]
    predicted, right = logits.argmax(dim=1), torch.tensor(labels)
    return {
        "accuracy": (predicted == right).float().tolist(),
        "macro-f1": _pseudo_values(
            lambda given, true: float(multiclass_f1_score(given, true, classes, average="macro")), predicted, right
        ),
        "mcc": _pseudo_values(
            lambda given, true: float(multiclass_matthews_corrcoef(given, true, classes)), predicted, right
        ),
    }


def _pseudo_values(metric: Callable[[Tensor, Tensor], float], predicted: Tensor, right: Tensor) -> list[float]:
    count = len(right)
    whole = metric(predicted, right)
    if count < 2:
        return [whole] * count
    pairs = list(zip(predicted.tolist(), right.tolist(), strict=True))

    @cache  # examples of the same two classes weigh the same
    def without(pair: tuple[int, int]) -> float:
        kept = torch.ones(count, dtype=torch.bool)
        kept[pairs.index(pair)] = False
        return metric(predicted[kept], right[kept])

    left_out = torch.tensor([without(pair) for pair in pairs], dtype=torch.float64)
    values: list[float] = (whole + (count - 1) * (left_out.mean() - left_out)).tolist()
    return values
