"""RAG: a retriever finds passages, a generator answers from them, and both are adapted at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from rank_search.core.evaluation import Evaluation
from rank_search.data.splits import fingerprint
from rank_search.tasks.answering import AnswerBatch, Answerer
from rank_search.tasks.augmentation import augment_texts, load_augmentation
from rank_search.tasks.base import Example, Output, Shown, Texts, telling
from rank_search.tasks.batching import CALIBRATION_BATCHES, check_batch_size, training_indices
from rank_search.tasks.embedding import inputs, query_ids, ranking_loss
from rank_search.tasks.generation import PARTS, score_answers, shown_answer
from rank_search.tasks.passages import Passages
from rank_search.tasks.prompts import Prompter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from rank_search.config import RagConfig, TrainingConfig
    from rank_search.core.evaluation import Split
    from rank_search.data.answered import Answered
    from rank_search.data.splits import Splits
    from rank_search.models.load import Loaded
    from rank_search.models.retriever import Retriever


@dataclass(frozen=True)
class RagBatch:
    """What both models learn from the same questions.

    Attributes:
        queries: retriever inputs of the questions, ``[batch, length]``.
        documents: retriever inputs of passages: each question's own first, then others that the unadapted
            retriever takes for right, ``[documents, length]``.
        others: boolean ``[batch, documents]``: the question's own passage where it stands a second time.
        answers: the generator's prompts and answers.
    """

    queries: dict[str, Tensor]
    documents: dict[str, Tensor]
    others: Tensor
    answers: AnswerBatch


class RagTask:
    """Retrieval-augmented generation over the passages of the data; implements `rank_search.tasks.base.Task`.

    In training the generator sees the passages that the *unadapted* retriever finds, the right one always
    among them, so that all maps train on the same batches; the other passages are the retriever's hard
    negatives. Scores are of answers from the passages that the *adapted* retriever finds.

    Raises:
        InputError: a batch is larger than the training split, or the prompt's template is wrong.
    """

    head = ()
    classes = ()

    def __init__(
        self,
        settings: RagConfig,
        training: TrainingConfig,
        data: Splits[Answered],
        retriever: Retriever,
        generator: Loaded,
    ) -> None:
        self._settings = settings
        self._training = training
        self._data = data
        self._retriever = retriever
        self._generator = generator
        self._augment = load_augmentation(training)
        check_batch_size(training, len(data.train))
        self.backbone = nn.ModuleDict({"retriever": retriever.encoder.backbone, "generator": generator.model})
        prompter = Prompter(settings, generator.tokenizer, generator.max_length)
        self._answerer = Answerer(generator, prompter, training.eval_batch_size)
        self._prompter = prompter
        corpus = tuple(dict.fromkeys(of.passage for part in PARTS for of in getattr(data, part)))
        self._place = {passage: i for i, passage in enumerate(corpus)}
        self._corpus = corpus
        self._shown, cut = prompter.cut_passages(corpus)
        self._passages = Passages(retriever, corpus, training.eval_batch_size)
        self.cut: Mapping[str, tuple[int, int]] = {
            "passages for the retriever": (self._passages.cut, len(corpus)),
            "passages for the generator": (cut, len(corpus)),
        }
        self._found = self._training_passages()
        self._taught = [
            self._answerer.taught(of.question, self._texts(found), of.answers[0])
            for of, found in zip(data.train, self._found, strict=True)
        ]

    @property
    def fingerprint(self) -> str:
        """Names the weights of both base models."""
        return fingerprint([self._retriever.fingerprint, self._generator.fingerprint])

    @property
    def data_fingerprint(self) -> str:
        """Changes with any text or split of the data."""
        return self._data.fingerprint

    def training_batches(self, steps: int, seed: int, *, augmented: bool = False) -> Iterator[RagBatch]:
        """Shuffled questions; augmentation changes what the retriever and the generator see of them."""
        lengths = [len(of) for of in self._taught]
        for number, batch in enumerate(training_indices(lengths, self._training.batch_size, steps, seed)):
            questions = [self._data.train[i].question for i in batch]
            taught = [self._taught[i] for i in batch]
            if augmented and self._augment:
                questions = augment_texts(self._augment, questions, seed, number)
                taught = [
                    self._answerer.taught(text, self._texts(self._found[i]), self._data.train[i].answers[0])
                    for i, text in zip(batch, questions, strict=True)
                ]
            own = [self._place[self._data.train[i].passage] for i in batch]
            negatives = sorted({place for i in batch for place in self._found[i]} - set(own))
            documents = own + negatives
            others = torch.tensor([[place == mine for place in documents] for mine in own])
            others[range(len(own)), range(len(own))] = False
            yield RagBatch(
                inputs(self._retriever, query_ids(self._retriever, questions)[0]),
                inputs(self._retriever, [self._passages.ids[place] for place in documents]),
                others,
                self._answerer.batch(taught),
            )

    def texts(self, batch: RagBatch) -> dict[str, list[Texts]]:
        """Questions and passages for the retriever, prompts with their answers for the generator."""
        return {
            "retriever.": [Texts.of(batch.queries), Texts.of(batch.documents)],
            "generator.": [self._answerer.texts(batch.answers)],
        }

    def loss(self, batch: RagBatch, copies: int = 1) -> Tensor:
        """The retriever's ranking loss and the generator's loss on the answers, added.

        They share no parameter, so each adapter gets its own loss's gradient.
        """
        others = batch.others.to(batch.queries["input_ids"].device)
        scale = self._settings.similarity_scale
        retrieval = ranking_loss(self._retriever, batch.queries, batch.documents, others, scale, copies)
        return retrieval + self._answerer.loss(batch.answers, copies)

    def size(self, split: Split) -> int:
        """Questions; passages are the same for every split."""
        return len(getattr(self._data, split))

    def evaluate(self, split: Split, copies: int = 1) -> list[Evaluation]:
        """Finds passages, answers from them, and scores both."""
        examples: Sequence[Answered] = getattr(self._data, split)
        found = self._passages.find([of.question for of in examples], self._settings.passages, copies)
        taught = [
            [
                self._answerer.taught(of.question, self._texts(places), of.answers[0])
                for of, places in zip(examples, of_map, strict=True)
            ]
            for of_map in found
        ]
        prompts = [[of.prompt for of in of_map] for of_map in taught]
        answers = self._answerer.answers(prompts, self._settings.max_new_tokens)
        values = [
            score_answers(given, examples) | self._recall(places, examples)
            for given, places in zip(answers, found, strict=True)
        ]
        if self._settings.metric == "log-likelihood":
            for of, weighed in zip(values, self._answerer.log_likelihoods(taught), strict=True):
                of["log-likelihood"] = weighed
        return [
            Evaluation(self._settings.metric, of, list(zip(places, given, strict=True)))
            for of, places, given in zip(values, found, answers, strict=True)
        ]

    def _recall(self, found: Sequence[Sequence[int]], examples: Sequence[Answered]) -> dict[str, list[float]]:
        """Whether the right passage was found for each question."""
        right = [float(self._place[of.passage] in places) for of, places in zip(examples, found, strict=True)]
        return {f"recall@{self._settings.passages}": right}

    def calibration_batches(self, seed: int) -> dict[str, list[dict[str, Tensor]]]:
        """The first training batches, for each of the two models."""
        batches = list(self.training_batches(CALIBRATION_BATCHES, seed))
        return {
            "retriever.": [batch.documents for batch in batches],
            "generator.": [batch.answers.inputs for batch in batches],
        }

    def examples(self, split: Split, before: Evaluation, after: Evaluation) -> list[Example]:
        """Questions with the passages found and the answers given."""
        data: Sequence[Answered] = getattr(self._data, split)

        def output(evaluation: Evaluation, i: int) -> Output:
            places, answer = evaluation.outputs[i]
            passages = tuple(Shown(self._corpus[place], self._corpus[place] == data[i].passage) for place in places)
            return Output(passages, shown_answer(answer, data[i]))

        return [
            Example(title, data[i].question, " / ".join(data[i].answers), output(before, i), output(after, i))
            for title, i in telling(before, after)
        ]

    def _training_passages(self) -> list[list[int]]:
        """For each training question what the unadapted retriever finds, the right passage among it."""
        examples = self._data.train
        (found,) = self._passages.find([of.question for of in examples], self._settings.passages)
        own = [self._place[of.passage] for of in examples]
        return [places if mine in places else [*places[:-1], mine] for places, mine in zip(found, own, strict=True)]

    def _texts(self, places: Sequence[int]) -> list[str]:
        return [self._shown[place] for place in places]
