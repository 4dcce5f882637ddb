"""Generation: a causal LM answers a question from its passages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.core.evaluation import Evaluation
from rank_search.data.splits import fingerprint
from rank_search.tasks.answering import AnswerBatch, Answerer, Taught
from rank_search.tasks.answers import exact_match, token_f1
from rank_search.tasks.augmentation import augment_texts, load_augmentation
from rank_search.tasks.base import Example, Output, Shown, Texts, telling
from rank_search.tasks.batching import CALIBRATION_BATCHES, check_batch_size, training_indices
from rank_search.tasks.passages import Passages, given_passages
from rank_search.tasks.prompts import Prompter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from rank_search.config import GenerationConfig, TrainingConfig
    from rank_search.core.evaluation import Split
    from rank_search.data.answered import Answered
    from rank_search.data.splits import Splits
    from rank_search.models.load import Loaded
    from rank_search.models.retriever import Retriever

PARTS = ("train", "validation", "test")


class GenerationTask:
    """Answers from a passage of the data, or from passages that an unadapted retriever finds.

    Implements `rank_search.tasks.base.Task`.

    Raises:
        InputError: a batch is larger than the training split, or the prompt's template is wrong.
    """

    head = ()
    classes = ()

    def __init__(
        self,
        settings: GenerationConfig,
        training: TrainingConfig,
        data: Splits[Answered],
        generator: Loaded,
        retriever: Retriever | None,
    ) -> None:
        self._settings = settings
        self._training = training
        self._data = data
        self._generator = generator
        self._retriever = retriever
        self._augment = load_augmentation(training)
        check_batch_size(training, len(data.train))
        prompter = Prompter(settings, generator.tokenizer, generator.max_length)
        self._answerer = Answerer(generator, prompter, training.eval_batch_size)
        corpus = tuple(dict.fromkeys(of.passage for part in PARTS for of in getattr(data, part)))
        texts, cut = prompter.cut_passages(corpus)
        self.cut: Mapping[str, tuple[int, int]] = {"passages": (cut, len(corpus))}
        shown = dict(zip(corpus, texts, strict=True))
        find = Passages(retriever, corpus, training.eval_batch_size) if retriever else None
        self._passages = {
            part: [[shown[text] for text in found] for found in given_passages(getattr(data, part), settings, find)]
            for part in PARTS
        }
        self._taught = {part: self._taught_of(part) for part in PARTS}

    @property
    def backbone(self) -> nn.Module:
        """The frozen causal LM."""
        return self._generator.model

    @property
    def fingerprint(self) -> str:
        """Names the weights of the generator, and of the retriever whose passages it sees."""
        if self._retriever is None:
            return self._generator.fingerprint
        return fingerprint([self._retriever.fingerprint, self._generator.fingerprint])

    @property
    def data_fingerprint(self) -> str:
        """Changes with any text or split of the data."""
        return self._data.fingerprint

    def training_batches(self, steps: int, seed: int, *, augmented: bool = False) -> Iterator[AnswerBatch]:
        """Shuffled questions with their first right answer; augmentation changes the questions."""
        taught = self._taught["train"]
        size = self._training.batch_size
        for number, batch in enumerate(training_indices([len(of) for of in taught], size, steps, seed)):
            examples = [taught[i] for i in batch]
            if augmented and self._augment:
                questions = augment_texts(self._augment, [self._data.train[i].question for i in batch], seed, number)
                passages = self._passages["train"]
                examples = [
                    self._answerer.taught(question, passages[i], self._data.train[i].answers[0])
                    for i, question in zip(batch, questions, strict=True)
                ]
            yield self._answerer.batch(examples)

    def texts(self, batch: AnswerBatch) -> dict[str, list[Texts]]:
        """Prompts with their answers."""
        return {"": [self._answerer.texts(batch)]}

    def loss(self, batch: AnswerBatch, copies: int = 1) -> Tensor:
        """Cross-entropy of the answers' tokens alone."""
        return self._answerer.loss(batch, copies)

    def size(self, split: Split) -> int:
        """Questions."""
        return len(self._taught[split])

    def evaluate(self, split: Split, copies: int = 1) -> list[Evaluation]:
        """Weighs the right answers; decodes answers too where they are the score, and on the test split."""
        taught = self._taught[split]
        values = [{"log-likelihood": of} for of in self._answerer.log_likelihoods([taught] * copies)]
        if split == "validation" and self._settings.metric == "log-likelihood":
            return [Evaluation(self._settings.metric, of) for of in values]
        prompts = [of.prompt for of in taught]
        answers = self._answerer.answers([prompts] * copies, self._settings.max_new_tokens)
        return [
            Evaluation(self._settings.metric, {**of, **score_answers(given, getattr(self._data, split))}, given)
            for of, given in zip(values, answers, strict=True)
        ]

    def calibration_batches(self, seed: int) -> dict[str, list[dict[str, Tensor]]]:
        """The first training batches."""
        return {"": [batch.inputs for batch in self.training_batches(CALIBRATION_BATCHES, seed)]}

    def examples(self, split: Split, before: Evaluation, after: Evaluation) -> list[Example]:
        """The question that gained most, the one in the middle, and the one that lost most."""
        data = getattr(self._data, split)
        return [
            Example(
                title,
                data[i].question,
                " / ".join(data[i].answers),
                *(Output((), shown_answer(of.outputs[i], data[i])) for of in (before, after)),
            )
            for title, i in telling(before, after)
        ]

    def _taught_of(self, part: str) -> list[Taught]:
        return [
            self._answerer.taught(of.question, passages, of.answers[0])
            for of, passages in zip(getattr(self._data, part), self._passages[part], strict=True)
        ]


def score_answers(answers: Sequence[str], examples: Sequence[Answered]) -> dict[str, list[float]]:
    """Token-F1 and exact match of each answer."""
    return {
        "f1": [token_f1(answer, of.answers) for answer, of in zip(answers, examples, strict=True)],
        "exact-match": [exact_match(answer, of.answers) for answer, of in zip(answers, examples, strict=True)],
    }


def shown_answer(answer: str, example: Answered) -> Shown:
    """An answer for the eye; right if it matches exactly."""
    return Shown(answer, bool(exact_match(answer, example.answers)))
