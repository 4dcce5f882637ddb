"""What every task with a generator does with it: learn answers, weigh them, give them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from rank_search.tasks.base import Texts
from rank_search.tasks.batching import by_map, in_batches, model_inputs, padded, repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Sized

    from torch import Tensor

    from rank_search.models.load import Loaded
    from rank_search.tasks.prompts import Prompter

IGNORED = -100  # label of a token that the loss leaves out; cross_entropy's own default


@dataclass(frozen=True)
class Taught:
    """Token ids of a prompt and of the answer to it."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class AnswerBatch:
    """Prompts with their answers, padded on the right.

    Attributes:
        inputs: ``input_ids`` and ``attention_mask``, both ``[batch, length]``.
        labels: ``[batch, length]``: the token itself where it belongs to an answer, else `IGNORED`.
    """

    inputs: dict[str, Tensor]
    labels: Tensor


class Answerer:
    """A causal LM as a task uses it, adapted or not."""

    def __init__(self, loaded: Loaded, prompter: Prompter, batch_size: int) -> None:
        self._model = loaded.model
        self._tokenizer = loaded.tokenizer
        self._prompter = prompter
        self._max_length = loaded.max_length
        self._batch_size = batch_size
        self._pad = int(loaded.tokenizer.pad_token_id or 0)
        self._ends = _ends(loaded)
        self._keeps_logits = "logits_to_keep" in inspect.signature(self._model.forward).parameters

    def taught(self, question: str, passages: Sequence[str], answer: str) -> Taught:
        """A question with its passages and the answer to learn, which is cut where the model's length ends."""
        prompt = self._prompter.prompt(question, passages)
        return Taught(prompt, self._prompter.answer(answer)[: self._max_length - len(prompt)])

    def batch(self, examples: Sequence[Taught]) -> AnswerBatch:
        """One batch; the loss will look at the answers alone."""
        labels = padded([[IGNORED] * len(of.prompt) + of.answer for of in examples], IGNORED)
        inputs = model_inputs([of.prompt + of.answer for of in examples], self._pad, self._model.device)
        return AnswerBatch(inputs, labels.to(self._model.device))

    @staticmethod
    def texts(batch: AnswerBatch) -> Texts:
        """The shape of a batch; logits are computed from the one before the first answer on."""
        return Texts.of(batch.inputs, batch.labels.shape[1] - _first_answer(batch.labels))

    def loss(self, batch: AnswerBatch, copies: int) -> Tensor:
        """Cross-entropy of the answers' tokens, mean over all of them in the batch; shape ``[copies]``."""
        several = AnswerBatch(repeated(batch.inputs, copies), batch.labels.repeat(copies, 1))
        losses, _ = self._token_losses(several)
        return by_map(losses, copies).sum(dim=(1, 2)) / (batch.labels != IGNORED).sum()

    @torch.inference_mode()
    def log_likelihoods(self, examples: Sequence[Sequence[Taught]]) -> list[list[float]]:
        """Of each map that stands in the model, the mean log-likelihood of the tokens of each answer, its end included.

        Args:
            examples: of each map, its prompts and the answers to weigh; equally many.
        """

        def compute(positions: list[int]) -> list[list[float]]:
            losses, labels = self._token_losses(self.batch([of[i] for of in examples for i in positions]))
            means = -losses.sum(1) / (labels != IGNORED).sum(1)
            of_example: list[list[float]] = by_map(means, len(examples)).T.tolist()
            return of_example

        return self._in_batches(examples, compute)

    @torch.inference_mode()
    def answers(self, prompts: Sequence[Sequence[list[int]]], max_new_tokens: int) -> list[list[str]]:
        """Of each map that stands in the model, the answer to each of its prompts, decoded greedily."""

        def compute(positions: list[int]) -> list[tuple[str, ...]]:
            # On the left, so that every row goes on where its prompt ends.
            rows = [of[i] for of in prompts for i in positions]
            inputs = model_inputs(rows, self._pad, self._model.device, left=True)
            model: Any = self._model  # its methods come from a mixin that the type does not show
            written = model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                max_new_tokens=max_new_tokens,
                pad_token_id=self._pad,
                eos_token_id=self._ends,
                repetition_penalty=1.0,  # what a model's own settings may ask for, and greedy decoding is without
                no_repeat_ngram_size=0,
            )
            fresh = written[:, inputs["input_ids"].shape[1] :]
            texts = [text.strip() for text in self._tokenizer.batch_decode(fresh, skip_special_tokens=True)]
            count = len(positions)
            return list(zip(*(texts[start : start + count] for start in range(0, len(texts), count)), strict=True))

        return self._in_batches(prompts, compute)

    def _in_batches(
        self, texts: Sequence[Sequence[Sized]], compute: Callable[[list[int]], Sequence[Sequence[Any]]]
    ) -> list[list[Any]]:
        """Computes something for each map and each of its texts, in batches of like length."""
        lengths = [max(len(text) for text in of_example) for of_example in zip(*texts, strict=True)]
        found = in_batches(lengths, self._batch_size, compute, len(texts))
        return [list(of_map) for of_map in zip(*found, strict=True)]

    def _token_losses(self, batch: AnswerBatch) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each token from the one before the first answer on, and the labels of these.

        Both are ``[batch, kept]``. Logits of tokens before every answer are not computed: the output layer
        is a fifth of a small model's work.
        """
        length = batch.labels.shape[1]
        first = _first_answer(batch.labels)
        kept = torch.arange(first - 1, length - 1, device=batch.labels.device)
        if self._keeps_logits:
            logits = self._model(**batch.inputs, use_cache=False, logits_to_keep=kept).logits
        else:
            logits = self._model(**batch.inputs, use_cache=False).logits[:, kept]
        labels = batch.labels[:, first:]
        losses = functional.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return losses.view(labels.shape), labels


def _first_answer(labels: Tensor) -> int:
    """The first place at which any row has a token of its answer."""
    return int((labels != IGNORED).any(0).nonzero()[0])


def _ends(loaded: Loaded) -> list[int]:
    """Tokens that end an answer: a chat model may end its turn with another than its tokenizer ends a text with."""
    settings: Any = loaded.model.generation_config
    own = settings.eos_token_id
    turn = own if isinstance(own, list) else [own]
    return sorted({int(end) for end in (loaded.tokenizer.eos_token_id, *turn) if end is not None})
