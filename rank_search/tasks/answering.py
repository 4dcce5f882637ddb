"""Loss, log-likelihood and decoding of answers, for every task that has a generator."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from rank_search.tasks.base import BatchShape
from rank_search.tasks.batching import in_batches, model_inputs, padded, repeat_copies, split_copies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Sized

    from torch import Tensor

    from rank_search.models.load import LoadedModel
    from rank_search.tasks.prompts import PromptBuilder

IGNORED = -100  # label of a token that the loss ignores; the default of cross_entropy


@dataclass(frozen=True)
class PromptAnswer:
    """Token ids of a prompt and of its answer, and whether either was truncated to the model's limit."""

    prompt: list[int]
    answer: list[int]
    prompt_cut: bool = False
    answer_cut: bool = False

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def count_cut(examples: Sequence[PromptAnswer]) -> dict[str, tuple[int, int]]:
    """How many prompts, and how many answers, were truncated to the model's limit, of how many."""
    return {
        "prompts": (sum(example.prompt_cut for example in examples), len(examples)),
        "answers": (sum(example.answer_cut for example in examples), len(examples)),
    }


@dataclass(frozen=True)
class AnswerBatch:
    """Prompts with their answers, padded on the right.

    Attributes:
        inputs: ``input_ids`` and ``attention_mask``, both ``[batch, length]``.
        labels: ``[batch, length]``: the token itself if it belongs to an answer, else `IGNORED`.
    """

    inputs: dict[str, Tensor]
    labels: Tensor


class Answerer:
    """Computes losses, log-likelihoods and answers with a causal LM and the adapters that are in it."""

    def __init__(self, loaded: LoadedModel, prompts: PromptBuilder, batch_size: int) -> None:
        self._model = loaded.model
        self._tokenizer = loaded.tokenizer
        self._prompts = prompts
        self._max_length = loaded.max_length
        self._batch_size = batch_size
        self._pad = int(loaded.tokenizer.pad_token_id or 0)
        self._stop_tokens = _stop_tokens(loaded)
        self._keeps_logits = "logits_to_keep" in inspect.signature(self._model.forward).parameters

    def encode(self, question: str, passages: Sequence[str], answer: str) -> PromptAnswer:
        """Tokenises a question with its passages and its answer; the answer is truncated to the model's limit."""
        prompt, prompt_cut = self._prompts.prompt(question, passages)
        tokens = self._prompts.answer(answer)
        room = self._max_length - len(prompt)
        return PromptAnswer(prompt, tokens[:room], prompt_cut, len(tokens) > room)

    def batch(self, examples: Sequence[PromptAnswer]) -> AnswerBatch:
        """Pads examples to one batch; labels cover only the answers."""
        labels = padded([[IGNORED] * len(example.prompt) + example.answer for example in examples], IGNORED)
        rows = [example.prompt + example.answer for example in examples]
        inputs = model_inputs(rows, self._pad, self._model.device)
        return AnswerBatch(inputs, labels.to(self._model.device))

    @staticmethod
    def batch_shape(batch: AnswerBatch) -> BatchShape:
        """The shape of a batch; logits are computed from the token before the first answer on."""
        return BatchShape.from_inputs(batch.inputs, batch.labels.shape[1] - _first_answer(batch.labels))

    def loss(self, batch: AnswerBatch, copies: int) -> Tensor:
        """Mean cross-entropy over the answer tokens of the batch, for each adapter; shape ``[copies]``."""
        batches = AnswerBatch(repeat_copies(batch.inputs, copies), batch.labels.repeat(copies, 1))
        losses, _ = self._token_losses(batches)
        return split_copies(losses, copies).sum(dim=(1, 2)) / (batch.labels != IGNORED).sum()

    @torch.inference_mode()
    def log_likelihoods(self, examples: Sequence[Sequence[PromptAnswer]]) -> list[list[float]]:
        """Mean log-likelihood of the tokens of each answer, with the end token: for each adapter, for each example.

        Args:
            examples: for each adapter, its prompts and answers; the same number for every adapter.
        """

        def compute(positions: list[int]) -> list[list[float]]:
            losses, labels = self._token_losses(self.batch([rows[i] for rows in examples for i in positions]))
            means = -losses.sum(1) / (labels != IGNORED).sum(1)
            by_example: list[list[float]] = split_copies(means, len(examples)).T.tolist()
            return by_example

        return self._in_batches(examples, compute)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[list[int]]], max_new_tokens: int) -> list[list[str]]:
        """Answers by greedy decoding: for each adapter, for each of its prompts."""

        def compute(positions: list[int]) -> list[tuple[str, ...]]:
            # Padding is on the left, so that the answer follows the prompt directly.
            rows = [prompt_ids[i] for prompt_ids in prompts for i in positions]
            inputs = model_inputs(rows, self._pad, self._model.device, left=True)
            model: Any = self._model  # generate comes from a mixin that the type does not show
            sequences = model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                max_new_tokens=max_new_tokens,
                pad_token_id=self._pad,
                eos_token_id=self._stop_tokens,
                # The model's generation settings may ask for these; plain greedy decoding does not use them.
                repetition_penalty=1.0,
                no_repeat_ngram_size=0,
            )
            new_tokens = sequences[:, inputs["input_ids"].shape[1] :]
            texts = [text.strip() for text in self._tokenizer.batch_decode(new_tokens, skip_special_tokens=True)]
            count = len(positions)
            return list(zip(*(texts[start : start + count] for start in range(0, len(texts), count)), strict=True))

        return self._in_batches(prompts, compute)

    def _in_batches(
        self, texts: Sequence[Sequence[Sized]], compute: Callable[[list[int]], Sequence[Sequence[Any]]]
    ) -> list[list[Any]]:
        """Applies a function to all texts in batches of similar length; returns results by adapter, then by text."""
        lengths = [max(map(len, copies)) for copies in zip(*texts, strict=True)]
        by_example = in_batches(lengths, self._batch_size, compute, len(texts))
        return [list(by_text) for by_text in zip(*by_example, strict=True)]

    def _token_losses(self, batch: AnswerBatch) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each token from the first answer token of the batch on, and the labels of these tokens.

        Both are ``[batch, kept]``. Logits before the first answer are not computed, because the output layer takes
        a fifth of a small model's time.
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
    """The first position at which any row has an answer token."""
    return int((labels != IGNORED).any(0).nonzero()[0])


def _stop_tokens(loaded: LoadedModel) -> list[int]:
    """Tokens that end an answer: the tokenizer's end token, and the model's, with which a chat model ends its turn."""
    settings: Any = loaded.model.generation_config
    model_ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    return sorted({int(end) for end in (loaded.tokenizer.eos_token_id, *model_ends) if end is not None})
