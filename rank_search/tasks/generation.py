"""Generation task: a causal LM answers a question from passages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rank_search.core.evaluation import Evaluation
from rank_search.data.splits import fingerprint, selection_of
from rank_search.tasks.answering import AnswerBatch, Answerer, PromptAnswer, count_cut
from rank_search.tasks.answers import exact_match, token_f1
from rank_search.tasks.augmentation import augment_texts, load_augmentation
from rank_search.tasks.base import BatchShape, Example, MarkedText, Output, examples_to_show
from rank_search.tasks.batching import CALIBRATION_BATCHES, check_batch_size, training_indices
from rank_search.tasks.passages import PassageRetriever, select_passages
from rank_search.tasks.prompts import PromptBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from rank_search.config import GenerationConfig, TrainingConfig
    from rank_search.core.evaluation import Split
    from rank_search.data.answered import AnsweredQuestion
    from rank_search.data.splits import Splits
    from rank_search.models.load import LoadedModel
    from rank_search.models.retriever import Retriever

PARTS = ("train", "validation", "test")


class GenerationTask:
    """Answers questions from a passage of the data, or from passages that a retriever without adapters finds.

    Implements `rank_search.tasks.base.Task`.

    Raises:
        InputError: a batch is larger than the training split, or the prompt template is wrong.
    """

    head = ()
    classes = ()

    def __init__(
        self,
        settings: GenerationConfig,
        training: TrainingConfig,
        data: Splits[AnsweredQuestion],
        generator: LoadedModel,
        retriever: Retriever | None,
    ) -> None:
        self._settings = settings
        self._training = training
        self._data = data
        self._generator = generator
        self._retriever = retriever
        self._augment = load_augmentation(training)
        check_batch_size(training, len(data.train))
        prompts = PromptBuilder(settings, generator.tokenizer, generator.max_length)
        self._answerer = Answerer(generator, prompts, training.eval_batch_size)
        corpus = tuple(dict.fromkeys(example.passage for part in PARTS for example in getattr(data, part)))
        texts, truncated = prompts.truncate_passages(corpus)
        shortened = dict(zip(corpus, texts, strict=True))
        passage_retriever = PassageRetriever(retriever, corpus, training.eval_batch_size) if retriever else None
        self._passages = {
            part: [
                [shortened[text] for text in passages]
                for passages in select_passages(getattr(data, part), settings, passage_retriever)
            ]
            for part in PARTS
        }
        self._encoded = {part: self._encode(part) for part in PARTS}
        encoded = [example for part in PARTS for example in self._encoded[part]]
        self.cut: Mapping[str, tuple[int, int]] = {"passages": (truncated, len(corpus)), **count_cut(encoded)}

    @property
    def backbone(self) -> nn.Module:
        """The frozen causal LM."""
        return self._generator.model

    @property
    def fingerprint(self) -> str:
        """A digest of the weights of the generator, and of the retriever that finds its passages."""
        if self._retriever is None:
            return self._generator.fingerprint
        return fingerprint([self._retriever.fingerprint, self._generator.fingerprint])

    @property
    def data_fingerprint(self) -> str:
        """A digest that changes with any text or split of the data."""
        return self._data.fingerprint

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user: what the data loses, what its parts share, what a model's files leave open."""
        return (*self._data.notes, *(self._retriever.notes if self._retriever else ()))

    def training_batches(self, steps: int, seed: int, *, augmented: bool = False) -> Iterator[AnswerBatch]:
        """Yields shuffled questions with their first right answer; augmentation changes the questions."""
        encoded = self._encoded["train"]
        size = self._training.batch_size
        for number, batch in enumerate(training_indices([len(example) for example in encoded], size, steps, seed)):
            examples = [encoded[i] for i in batch]
            if augmented and self._augment:
                questions = augment_texts(self._augment, [self._data.train[i].question for i in batch], seed, number)
                passages = self._passages["train"]
                examples = [
                    self._answerer.encode(question, passages[i], self._data.train[i].answers[0])
                    for i, question in zip(batch, questions, strict=True)
                ]
            yield self._answerer.batch(examples)

    def batch_shapes(self, batch: AnswerBatch) -> dict[str, list[BatchShape]]:
        """The shape of the prompts with their answers."""
        return {"": [self._answerer.batch_shape(batch)]}

    def loss(self, batch: AnswerBatch, copies: int = 1) -> Tensor:
        """Cross-entropy of the answer tokens; prompt tokens do not count."""
        return self._answerer.loss(batch, copies)

    def examples_in(self, split: Split) -> int:
        """The number of questions."""
        return len(getattr(self._data, split))

    def size(self, split: Split) -> int:
        """The number of questions."""
        return len(self._encoded[split])

    def evaluate(self, split: Split, copies: int = 1) -> list[Evaluation]:
        """Computes log-likelihoods of the right answers.

        On the test split, and where the metric needs decoded answers, it decodes and scores answers too.
        """
        encoded, selection = self._encoded[split], selection_of(self._data, split)
        values = [{"log-likelihood": scores} for scores in self._answerer.log_likelihoods([encoded] * copies)]
        if split == "validation" and self._settings.metric == "log-likelihood":
            return [Evaluation(self._settings.metric, scores, selection=selection) for scores in values]
        prompts = [example.prompt for example in encoded]
        answers = self._answerer.generate([prompts] * copies, self._settings.max_new_tokens)
        examples = getattr(self._data, split)
        return [
            Evaluation(self._settings.metric, {**scores, **score_answers(texts, examples)}, texts, selection)
            for scores, texts in zip(values, answers, strict=True)
        ]

    def calibration_batches(self, seed: int) -> dict[str, list[dict[str, Tensor]]]:
        """The inputs of the first training batches."""
        return {"": [batch.inputs for batch in self.training_batches(CALIBRATION_BATCHES, seed)]}

    def examples(self, split: Split, before: Evaluation, after: Evaluation) -> list[Example]:
        """The questions with the largest gain, the median gain and the largest loss."""
        data = getattr(self._data, split)
        return [
            Example(
                title,
                data[i].question,
                " / ".join(data[i].answers),
                *(Output((), mark_answer(scored.outputs[i], data[i])) for scored in (before, after)),
            )
            for title, i in examples_to_show(before, after)
        ]

    def _encode(self, part: str) -> list[PromptAnswer]:
        return [
            self._answerer.encode(example.question, passages, example.answers[0])
            for example, passages in zip(getattr(self._data, part), self._passages[part], strict=True)
        ]


def score_answers(answers: Sequence[str], examples: Sequence[AnsweredQuestion]) -> dict[str, list[float]]:
    """Token-F1 and exact match of each answer."""
    return {
        "f1": [token_f1(answer, example.answers) for answer, example in zip(answers, examples, strict=True)],
        "exact-match": [
            exact_match(answer, example.answers) for answer, example in zip(answers, examples, strict=True)
        ],
    }


def mark_answer(answer: str, example: AnsweredQuestion) -> MarkedText:
    """Marks an answer for the report: it is right if it matches exactly."""
    return MarkedText(answer, bool(exact_match(answer, example.answers)))
