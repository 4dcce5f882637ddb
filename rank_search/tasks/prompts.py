"""Builds the tokens of a prompt from a question and its passages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from rank_search.core.deadline import TemplateTimeout, template_deadline
from rank_search.core.errors import InputError
from rank_search.tasks.batching import tokenise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Template
    from transformers import PreTrainedTokenizerBase

    from rank_search.config import AnswerConfig

_REQUEST = """Answer the question in a few words from the context.

Context: {{ context }}

Question: {{ question }}"""
_SECONDS = 10  # for one prompt, which takes a few milliseconds
_PLAIN = _REQUEST + "\n\nAnswer:"


class PromptBuilder:
    """Builds prompts and tokenises them.

    The text comes from the study file's template, or by default from a short request. Without a template of the
    study file, the tokenizer's chat template is put around the request, if the tokenizer has one.

    Raises:
        InputError: the template is wrong, the tokenizer has no end token, or answers leave no room for a prompt.
    """

    def __init__(self, settings: AnswerConfig, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._passage_length = settings.passage_length
        self._max_prompt_tokens = max_length - settings.max_new_tokens
        self._chat = settings.template is None and tokenizer.chat_template is not None
        passage_count = settings.passages if getattr(settings, "retriever", None) else 1
        self._template = _template(settings.template or (_REQUEST if self._chat else _PLAIN), passages=passage_count)
        if tokenizer.eos_token_id is None:
            raise InputError("the tokenizer has no end-of-text token; name a causal LM", field="model.source")
        if len(self._tokens("", [""] * passage_count)) >= self._max_prompt_tokens:
            raise InputError(
                f"the model's limit is {max_length} tokens, which leaves no room for a question; lower this value",
                field="task.max_new_tokens",
            )

    def truncate_passages(self, passages: Sequence[str]) -> tuple[list[str], int]:
        """Truncates passages to ``task.passage_length`` tokens; also returns the number of truncated passages."""
        ids: list[list[int]] = self._tokenizer(list(passages), add_special_tokens=False)["input_ids"]
        too_long = [len(tokens) > self._passage_length for tokens in ids]
        texts = [
            str(self._tokenizer.decode(tokens[: self._passage_length])) if truncate else text
            for text, tokens, truncate in zip(passages, ids, too_long, strict=True)
        ]
        return texts, sum(too_long)

    def prompt(self, question: str, passages: Sequence[str]) -> tuple[list[int], bool]:
        """Token ids of a whole prompt; passages are truncated further if the prompt exceeds the model's limit.

        Returns:
            The token ids, and whether passages were truncated for the limit.

        Raises:
            InputError: the question alone exceeds the model's limit.
        """
        tokens = self._tokens(question, passages)
        share = 1.0
        while len(tokens) > self._max_prompt_tokens:
            share *= 0.95 * self._max_prompt_tokens / len(tokens)
            shorter = [passage[: int(share * len(passage))] for passage in passages]
            if not any(shorter):
                raise InputError(
                    f"the question {question[:40]!r}… is longer than the model's limit; remove it", field="task.data"
                )
            tokens = self._tokens(question, shorter)
        return tokens, share < 1

    def answer(self, text: str) -> list[int]:
        """Token ids of an answer, followed by the end token."""
        separated = text if self._chat else f" {text}"
        ids: list[int] = self._tokenizer(separated, add_special_tokens=False)["input_ids"]
        return [*ids, int(self._tokenizer.eos_token_id)]

    def _tokens(self, question: str, passages: Sequence[str]) -> list[int]:
        text = self._template.render(question=question, passages=list(passages), context="\n\n".join(passages))
        if not self._chat:
            return tokenise(self._tokenizer, [text], 2**31)[0][0]
        # The chat template adds the special tokens.
        messages = [{"role": "user", "content": text}]
        try:
            with template_deadline(_SECONDS):
                whole = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except TemplateTimeout:
            raise InputError(
                f"the chat template in the model's files does not end within {_SECONDS} s; correct it, or write "
                "task.template",
                field="model.source",
            ) from None
        ids: list[int] = self._tokenizer(whole, add_special_tokens=False)["input_ids"]
        return ids


def _template(text: str, passages: int) -> Template:
    """Compiles a Jinja template and tries it with empty texts."""
    environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        template = environment.from_string(text)
        with template_deadline(_SECONDS):
            template.render(question="", passages=[""] * passages, context="")
    except TemplateTimeout:
        raise InputError(f"does not end within {_SECONDS} s; write shorter loops", field="task.template") from None
    except (TemplateError, ArithmeticError, TypeError, ValueError) as error:
        raise InputError(
            f"{error}; write a Jinja template that uses question, passages or context", field="task.template"
        ) from None
    return template
