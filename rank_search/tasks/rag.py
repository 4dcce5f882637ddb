"""RAG task: a retriever finds passages, a generator answers from them, and both are adapted together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from rank_search.core.evaluation import Evaluation
from rank_search.data.splits import fingerprint, selection_of
from rank_search.tasks.answering import AnswerBatch, Answerer, count_cut
from rank_search.tasks.augmentation import augment_texts, load_augmentation
from rank_search.tasks.base import BatchShape, Example, MarkedText, Output, examples_to_show
from rank_search.tasks.batching import CALIBRATION_BATCHES, check_batch_size, training_indices
from rank_search.tasks.embedding import encoder_inputs, ranking_loss, scale_notes, token_ids
from rank_search.tasks.generation import PARTS, mark_answer, score_answers
from rank_search.tasks.passages import PassageRetriever
from rank_search.tasks.prompts import PromptBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from rank_search.config import RagConfig, TrainingConfig
    from rank_search.core.evaluation import Split
    from rank_search.data.answered import AnsweredQuestion
    from rank_search.data.splits import Splits
    from rank_search.models.load import LoadedModel
    from rank_search.models.retriever import Retriever


@dataclass(frozen=True)
class RagBatch:
    """A training batch for both models, from the same questions.

    Attributes:
        queries: retriever inputs of the questions, ``[batch, length]``.
        documents: retriever inputs of the passages, ``[documents, length]``: the right passage of each question,
            then hard negatives, which the retriever without adapters finds.
        other_positives: boolean ``[batch, documents]``: further copies of the right passage of a question.
        answers: the generator's prompts and answers.
    """

    queries: dict[str, Tensor]
    documents: dict[str, Tensor]
    other_positives: Tensor
    answers: AnswerBatch


class RagTask:
    """Retrieval-augmented generation over the passages of the data; implements `rank_search.tasks.base.Task`.

    In training, the generator gets passages that the retriever finds *without* adapters, and always the right
    passage, so that all adapters train on the same batches. The other passages are hard negatives for the
    retriever. In evaluation, the generator answers from the passages that the retriever finds *with* its adapter.

    Raises:
        InputError: a batch is larger than the training split, or the prompt template is wrong.
    """

    head = ()
    classes = ()

    def __init__(
        self,
        settings: RagConfig,
        training: TrainingConfig,
        data: Splits[AnsweredQuestion],
        retriever: Retriever,
        generator: LoadedModel,
    ) -> None:
        self._settings = settings
        self._training = training
        self._data = data
        self._retriever = retriever
        self._generator = generator
        self._augment = load_augmentation(training)
        check_batch_size(training, len(data.train))
        self.backbone = nn.ModuleDict({"retriever": retriever.encoder.backbone, "generator": generator.model})
        prompts = PromptBuilder(settings, generator.tokenizer, generator.max_length)
        self._answerer = Answerer(generator, prompts, training.eval_batch_size)
        corpus = tuple(dict.fromkeys(example.passage for part in PARTS for example in getattr(data, part)))
        self._position = {passage: i for i, passage in enumerate(corpus)}
        self._corpus = corpus
        self._prompt_passages, truncated = prompts.truncate_passages(corpus)
        self._passages = PassageRetriever(retriever, corpus, training.eval_batch_size)
        self._train_passages = self._training_passages()
        self._encoded = [
            self._answerer.encode(example.question, self._texts(positions), example.answers[0])
            for example, positions in zip(data.train, self._train_passages, strict=True)
        ]
        self.cut: Mapping[str, tuple[int, int]] = {
            "passages for the retriever": (self._passages.truncated, len(corpus)),
            "passages for the generator": (truncated, len(corpus)),
            **{f"training {kind}": counts for kind, counts in count_cut(self._encoded).items()},
        }

    @property
    def fingerprint(self) -> str:
        """A digest of the weights of both base models."""
        return fingerprint([self._retriever.fingerprint, self._generator.fingerprint])

    @property
    def data_fingerprint(self) -> str:
        """A digest that changes with any text or split of the data."""
        return self._data.fingerprint

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user: what the data loses, what its parts share, what a model's files leave open."""
        scale = scale_notes(self._retriever, self._settings.similarity_scale)
        return (*self._data.notes, *self._retriever.notes, *scale)

    def training_batches(self, steps: int, seed: int, *, augmented: bool = False) -> Iterator[RagBatch]:
        """Yields shuffled questions; augmentation changes the questions for the retriever and the generator."""
        lengths = [len(example) for example in self._encoded]
        for number, batch in enumerate(training_indices(lengths, self._training.batch_size, steps, seed)):
            questions = [self._data.train[i].question for i in batch]
            encoded = [self._encoded[i] for i in batch]
            if augmented and self._augment:
                questions = augment_texts(self._augment, questions, seed, number)
                encoded = [
                    self._answerer.encode(text, self._texts(self._train_passages[i]), self._data.train[i].answers[0])
                    for i, text in zip(batch, questions, strict=True)
                ]
            positives = [self._position[self._data.train[i].passage] for i in batch]
            negatives = sorted({position for i in batch for position in self._train_passages[i]} - set(positives))
            documents = positives + negatives
            other_positives = torch.tensor([[document == positive for document in documents] for positive in positives])
            other_positives[range(len(positives)), range(len(positives))] = False
            yield RagBatch(
                encoder_inputs(self._retriever, token_ids(self._retriever, questions, self._retriever.query)[0]),
                encoder_inputs(self._retriever, [self._passages.ids[document] for document in documents]),
                other_positives,
                self._answerer.batch(encoded),
            )

    def batch_shapes(self, batch: RagBatch) -> dict[str, list[BatchShape]]:
        """Shapes of questions and passages for the retriever, and of prompts with answers for the generator."""
        return {
            "retriever.": [BatchShape.from_inputs(batch.queries), BatchShape.from_inputs(batch.documents)],
            "generator.": [self._answerer.batch_shape(batch.answers)],
        }

    def loss(self, batch: RagBatch, copies: int = 1) -> Tensor:
        """The sum of the retriever's ranking loss and the generator's loss on the answers.

        The two models share no parameters, so each adapter gets the gradient of its own loss.
        """
        other_positives = batch.other_positives.to(batch.queries["input_ids"].device)
        scale = self._settings.similarity_scale
        retrieval = ranking_loss(self._retriever, batch.queries, batch.documents, other_positives, scale, copies)
        return retrieval + self._answerer.loss(batch.answers, copies)

    def examples_in(self, split: Split) -> int:
        """The number of questions."""
        return len(getattr(self._data, split))

    def size(self, split: Split) -> int:
        """The number of questions; passages are the same for every split and do not count."""
        return len(getattr(self._data, split))

    def evaluate(self, split: Split, copies: int = 1) -> list[Evaluation]:
        """Retrieves passages, answers from them, and scores both steps."""
        examples: Sequence[AnsweredQuestion] = getattr(self._data, split)
        # Outer lists have one item per adapter, inner lists one per question.
        retrieved = self._passages.find([example.question for example in examples], self._settings.passages, copies)
        encoded = [
            [
                self._answerer.encode(example.question, self._texts(positions), example.answers[0])
                for example, positions in zip(examples, by_question, strict=True)
            ]
            for by_question in retrieved
        ]
        prompts = [[example.prompt for example in by_question] for by_question in encoded]
        answers = self._answerer.generate(prompts, self._settings.max_new_tokens)
        values = [
            score_answers(texts, examples) | self._recall(positions, examples)
            for texts, positions in zip(answers, retrieved, strict=True)
        ]
        if self._settings.metric == "log-likelihood":
            for scores, log_likelihoods in zip(values, self._answerer.log_likelihoods(encoded), strict=True):
                scores["log-likelihood"] = log_likelihoods
        selection = selection_of(self._data, split)
        return [
            Evaluation(self._settings.metric, scores, list(zip(positions, texts, strict=True)), selection)
            for scores, positions, texts in zip(values, retrieved, answers, strict=True)
        ]

    def _recall(
        self, retrieved: Sequence[Sequence[int]], examples: Sequence[AnsweredQuestion]
    ) -> dict[str, list[float]]:
        """1 for each question whose right passage was retrieved, else 0."""
        hits = [
            float(self._position[example.passage] in positions)
            for example, positions in zip(examples, retrieved, strict=True)
        ]
        return {f"recall@{self._settings.passages}": hits}

    def calibration_batches(self, seed: int) -> dict[str, list[dict[str, Tensor]]]:
        """The inputs of the first training batches, for each of the two models."""
        batches = list(self.training_batches(CALIBRATION_BATCHES, seed))
        return {
            "retriever.": [batch.documents for batch in batches],
            "generator.": [batch.answers.inputs for batch in batches],
        }

    def examples(self, split: Split, before: Evaluation, after: Evaluation) -> list[Example]:
        """Questions with the retrieved passages and the answers."""
        data: Sequence[AnsweredQuestion] = getattr(self._data, split)

        def output(evaluation: Evaluation, i: int) -> Output:
            positions, answer = evaluation.outputs[i]
            texts = [self._corpus[position] for position in positions]
            passages = tuple(MarkedText(text, text == data[i].passage) for text in texts)
            return Output(passages, mark_answer(answer, data[i]))

        return [
            Example(title, data[i].question, " / ".join(data[i].answers), output(before, i), output(after, i))
            for title, i in examples_to_show(before, after)
        ]

    def _training_passages(self) -> list[list[int]]:
        """Positions of the passages that the retriever without adapters finds for each training question.

        If the right passage is not among them, it replaces the last one.
        """
        examples = self._data.train
        (retrieved,) = self._passages.find([example.question for example in examples], self._settings.passages)
        positives = [self._position[example.passage] for example in examples]
        return [
            positions if positive in positions else [*positions[:-1], positive]
            for positions, positive in zip(retrieved, positives, strict=True)
        ]

    def _texts(self, positions: Sequence[int]) -> list[str]:
        return [self._prompt_passages[position] for position in positions]
