"""The interface of a task, as the trainer, the search and the report use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from rank_search.core.evaluation import Evaluation, Split


@dataclass(frozen=True)
class MarkedText:
    """A text to show in the report, and whether it is right."""

    text: str
    right: bool


@dataclass(frozen=True)
class Output:
    """The output of a model for one input.

    Attributes:
        passages: the retrieved passages, best first; empty if the task retrieves none.
        answer: the predicted class or answer; None if the task has none.
    """

    passages: tuple[MarkedText, ...] = ()
    answer: MarkedText | None = None


@dataclass(frozen=True)
class Example:
    """One input with the model's outputs before and after fine-tuning, for the report.

    Attributes:
        title: why this example is shown.
        text: the input.
        expected: the right class or answers; empty if the marks on the passages show what is right.
        before: the output before fine-tuning.
        after: the output after fine-tuning.
    """

    title: str
    text: str
    expected: str
    before: Output
    after: Output


def examples_to_show(before: Evaluation, after: Evaluation) -> list[tuple[str, int]]:
    """Picks three examples: (title, position) of the largest gain, the median and the largest loss."""
    metric = before.metric
    gains = [new - old for old, new in zip(before.values[metric], after.values[metric], strict=True)]
    order = sorted(range(len(gains)), key=lambda i: gains[i])
    picks = {"largest gain": order[-1], "median": order[len(order) // 2], "largest loss": order[0]}
    return [(f"{title}: {metric} {gains[i]:+.3f}", i) for title, i in picks.items()]


@dataclass(frozen=True)
class BatchShape:
    """Shape of the token ids that go into a model together.

    Attributes:
        rows: number of texts.
        length: tokens per text, including padding.
        predicted: tokens per text for which an output layer computes logits.
    """

    rows: int
    length: int
    predicted: int = 0

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Tensor], predicted: int = 0) -> BatchShape:
        """The shape of model inputs: ``input_ids`` of ``[rows, length]``."""
        rows, length = inputs["input_ids"].shape
        return cls(rows, length, predicted)


class Task(Protocol):
    """A task makes batches, computes the loss and scores the model. It holds the loaded base model.

    Ownership: the caller that trains puts adapters into `backbone` and removes them again.

    Copies: a model may hold several adapters side by side (`rank_search.adapters.Pack`). The rows of a batch
    are then repeated once per adapter: all rows of the first adapter, then all rows of the second, and so on.
    """

    @property
    def backbone(self) -> nn.Module:
        """The frozen model whose linear layers may be adapted; a ``ModuleDict`` if the task has several models."""

    @property
    def head(self) -> tuple[str, ...]:
        """Modules of the backbone that are fully trained beside the adapters, such as a new classification head."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their numbers; empty if the task has no classes."""

    @property
    def fingerprint(self) -> str:
        """A digest of the base model's weights."""

    @property
    def data_fingerprint(self) -> str:
        """A digest that changes with any text or split of the data."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user: what the data loses, what its parts share, what a model's files leave open."""

    @property
    def cut(self) -> Mapping[str, tuple[int, int]]:
        """Kind of text → (number of texts that were truncated to the model's limit, number of all texts)."""

    def training_batches(self, steps: int, seed: int, *, augmented: bool = False) -> Iterator[Any]:
        """Yields ``steps`` batches, which depend only on the seed and not on the adapter.

        With ``augmented``, ``training.augmentation`` changes the inputs; examples and their order stay the same.
        """

    def batch_shapes(self, batch: Any) -> Mapping[str, Sequence[BatchShape]]:
        """Shapes of the inputs of each base model, by the prefix of its module names."""

    def loss(self, batch: Any, copies: int = 1) -> Tensor:
        """Mean loss of a batch for each adapter in the model, with gradient; shape ``[copies]``."""

    def examples_in(self, split: Split) -> int:
        """Number of examples of the split that are scored."""

    def size(self, split: Split) -> int:
        """Number of texts that an evaluation of the split puts into the model.

        Evaluation time is proportional to it, except where answers are decoded only on the test split.
        """

    def evaluate(self, split: Split, copies: int = 1) -> list[Evaluation]:
        """Scores each adapter in the model, without gradient."""

    def calibration_batches(self, seed: int) -> Mapping[str, Sequence[dict[str, Tensor]]]:
        """A few batches of inputs for initialisations that use activations, by base model.

        The keys are the prefixes of the base models' module names, as in ``StudyConfig.base_models``.
        """

    def examples(self, split: Split, before: Evaluation, after: Evaluation) -> list[Example]:
        """A few examples of the split with the outputs before and after fine-tuning."""
