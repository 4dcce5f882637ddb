"""What the trainer, the search and the report need of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from rank_search.core.evaluation import Evaluation, Split


@dataclass(frozen=True)
class Shown:
    """A text for the eye, and whether it is right."""

    text: str
    right: bool


@dataclass(frozen=True)
class Output:
    """What a model gave for one input.

    Attributes:
        passages: the passages it found, best first; empty where it finds none.
        answer: the class or the answer it gave; None where it gives none.
    """

    passages: tuple[Shown, ...] = ()
    answer: Shown | None = None


@dataclass(frozen=True)
class Example:
    """One input with what the model gave before and after fine-tuning, for the report.

    Attributes:
        title: why this one is shown.
        text: the input.
        expected: the right class or answers; empty where the marks on the passages say it all.
        before: what the model gave before.
        after: what it gave after.
    """

    title: str
    text: str
    expected: str
    before: Output
    after: Output


def telling(before: Evaluation, after: Evaluation) -> list[tuple[str, int]]:
    """The examples to show: (title, position) of the largest gain, the middle one and the largest loss."""
    metric = before.metric
    gains = [new - old for old, new in zip(before.values[metric], after.values[metric], strict=True)]
    order = sorted(range(len(gains)), key=lambda i: gains[i])
    picks = {"largest gain": order[-1], "median": order[len(order) // 2], "largest loss": order[0]}
    return [(f"{title}: {metric} {gains[i]:+.3f}", i) for title, i in picks.items()]


@dataclass(frozen=True)
class Texts:
    """Rows of token ids that go into a model together.

    Attributes:
        rows: how many.
        length: tokens of each, padding included.
        predicted: tokens of each for which an output layer computes logits.
    """

    rows: int
    length: int
    predicted: int = 0

    @classmethod
    def of(cls, inputs: Mapping[str, Tensor], predicted: int = 0) -> Texts:
        """The texts of model inputs."""
        rows, length = inputs["input_ids"].shape
        return cls(rows, length, predicted)


class Task(Protocol):
    """Data → batches, loss, score. Holds the loaded base model; adapters are put into it by others.

    Ownership: whoever trains puts adapters into `backbone`, and takes them out again.

    Copies: several maps may stand in the model side by side (`rank_search.adapters.Pack`). Whatever goes
    into the model then holds the rows of a batch once for each of them, one map's after another's.
    """

    @property
    def backbone(self) -> nn.Module:
        """The frozen model whose linear layers may be adapted; several of them in a ``ModuleDict``."""

    @property
    def head(self) -> tuple[str, ...]:
        """Modules of the backbone that are trained whole beside the adapters, such as a fresh classifier."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their numbers; empty where the task has none."""

    @property
    def fingerprint(self) -> str:
        """Names the base model's weights."""

    @property
    def data_fingerprint(self) -> str:
        """Changes with any text or split of the data."""

    @property
    def cut(self) -> Mapping[str, tuple[int, int]]:
        """Kind of text → how many are longer than the model takes, and were cut, of how many."""

    def training_batches(self, steps: int, seed: int, *, augmented: bool = False) -> Iterator[Any]:
        """``steps`` batches, the same for the same seed whatever adapter is trained on them.

        With ``augmented`` their inputs are changed by ``training.augmentation``, the same examples in the
        same order.
        """

    def texts(self, batch: Any) -> Mapping[str, Sequence[Texts]]:
        """What a batch puts into each base model, by the prefix of its module names."""

    def loss(self, batch: Any, copies: int = 1) -> Tensor:
        """Mean loss of a batch under each map that stands in the model, with gradient; shape ``[copies]``."""

    def size(self, split: Split) -> int:
        """Texts that an evaluation of the split puts into the model.

        Its time goes by that, but where answers are decoded on the test split alone.
        """

    def evaluate(self, split: Split, copies: int = 1) -> list[Evaluation]:
        """Scores each map that stands in the model, without gradient."""

    def calibration_batches(self, seed: int) -> Mapping[str, Sequence[dict[str, Tensor]]]:
        """A few batches of inputs for initialisations that look at activations, by base model.

        The keys are the prefixes of the base models' module names, as in ``StudyConfig.base_models``.
        """

    def examples(self, split: Split, before: Evaluation, after: Evaluation) -> list[Example]:
        """A few examples of the split with both models' answers."""
