"""From a question and its passages to the prompt's tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

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
_PLAIN = _REQUEST + "\n\nAnswer:"


class Prompter:
    """Writes prompts: by the study file's template, else by the tokenizer's chat template, else plainly.

    Raises:
        InputError: the template is not one, or asks for something else than question, passages, context.
    """

    def __init__(self, settings: AnswerConfig, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._passage_length = settings.passage_length
        self._room = max_length - settings.max_new_tokens
        self._chat = settings.template is None and tokenizer.chat_template is not None
        found = settings.passages if getattr(settings, "retriever", None) else 1
        self._template = _template(settings.template or (_REQUEST if self._chat else _PLAIN), passages=found)
        if tokenizer.eos_token_id is None:
            raise InputError("its tokenizer has no token that ends a text; name a causal LM", field="model.source")
        if len(self._tokens("", [""] * found)) >= self._room:
            raise InputError(
                f"the model takes {max_length} tokens, which leaves no room for a question; lower it",
                field="task.max_new_tokens",
            )

    def cut_passages(self, passages: Sequence[str]) -> tuple[list[str], int]:
        """The passages, none longer than ``task.passage_length``, and how many were cut."""
        ids: list[list[int]] = self._tokenizer(list(passages), add_special_tokens=False)["input_ids"]
        long = [len(of) > self._passage_length for of in ids]
        texts = [
            str(self._tokenizer.decode(of[: self._passage_length])) if cut else text
            for text, of, cut in zip(passages, ids, long, strict=True)
        ]
        return texts, sum(long)

    def prompt(self, question: str, passages: Sequence[str]) -> list[int]:
        """Token ids of a whole prompt; passages are cut further where the model's length asks for it.

        Raises:
            InputError: the question alone is longer than the model takes.
        """
        tokens = self._tokens(question, passages)
        share = 1.0
        while len(tokens) > self._room:
            share *= 0.95 * self._room / len(tokens)
            shorter = [passage[: int(share * len(passage))] for passage in passages]
            if not any(shorter):
                raise InputError(
                    f"the question {question[:40]!r}… is longer than the model takes; drop it", field="task.data"
                )
            tokens = self._tokens(question, shorter)
        return tokens

    def answer(self, text: str) -> list[int]:
        """Token ids of an answer, with the token that ends it."""
        separated = text if self._chat else f" {text}"
        ids: list[int] = self._tokenizer(separated, add_special_tokens=False)["input_ids"]
        return [*ids, int(self._tokenizer.eos_token_id)]

    def _tokens(self, question: str, passages: Sequence[str]) -> list[int]:
        text = self._template.render(question=question, passages=list(passages), context="\n\n".join(passages))
        if not self._chat:
            return tokenise(self._tokenizer, [text], 2**31)[0][0]
        # The chat template writes the special tokens itself.
        messages = [{"role": "user", "content": text}]
        whole = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids: list[int] = self._tokenizer(whole, add_special_tokens=False)["input_ids"]
        return ids


def _template(text: str, passages: int) -> Template:
    environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        template = environment.from_string(text)
        template.render(question="", passages=[""] * passages, context="")
    except (TemplateError, ArithmeticError, TypeError, ValueError) as error:
        raise InputError(
            f"{error}; write a Jinja template of question, passages and context", field="task.template"
        ) from None
    return template
