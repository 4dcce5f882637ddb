import pytest

from rank_search.config import GenerationConfig
from rank_search.core.errors import InputError
from rank_search.tasks import prompts
from rank_search.tasks.prompts import PromptBuilder
from tests.tasks.conftest import tokenizer


def answer_config(**settings) -> GenerationConfig:
    return GenerationConfig(kind="generation", data="x", **settings)


def prompter(limit: int = 256, **settings) -> PromptBuilder:
    return PromptBuilder(answer_config(**settings), tokenizer(), limit)


def text_of(ids: list[int]) -> str:
    return tokenizer().decode(ids, skip_special_tokens=True)


def prompt_text(builder: PromptBuilder, question: str, passages: list[str]) -> str:
    ids, _ = builder.prompt(question, passages)
    return text_of(ids)


def test_template_and_chat_template() -> None:
    custom = prompter(template="Q {{ question }} C {{ context }} N {{ passages|length }}")
    assert prompt_text(custom, "why", ["one", "two"]) == "q why c one two n 2"
    made = tokenizer()
    said = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
    made.chat_template = said + "{% if add_generation_prompt %} [bot]{% endif %}"
    chat = PromptBuilder(answer_config(), made, 256)
    assert prompt_text(chat, "why?", ["because"]).startswith("[ user ] answer the question in a few words")
    assert prompt_text(chat, "why?", ["because"]).endswith("question : why? [ bot ]")
    # The chat template writes the special tokens itself.
    assert 101 not in chat.prompt("why?", ["because"])[0]


def test_template_may_name_each_passage_that_a_retriever_finds() -> None:
    two = prompter(template="{{ passages[1] }} {{ question }}", retriever={"source": "x"}, passages=2)
    assert prompt_text(two, "why", ["one", "two"]) == "two why"


def test_tokenizer_without_an_end_is_refused() -> None:
    made = tokenizer()
    made.eos_token = None
    with pytest.raises(InputError, match=r"model\.source: the tokenizer has no end-of-text token"):
        PromptBuilder(answer_config(), made, 256)


def test_long_passages_are_truncated_and_counted() -> None:
    long = " ".join(["word"] * 50)
    texts, cut = prompter(passage_length=10).truncate_passages([long, "short one"])
    assert (texts, cut) == ([" ".join(["word"] * 10), "short one"], 1)


def test_prompt_fits_the_model_whatever_the_passages() -> None:
    long = " ".join(["word"] * 500)
    tight = prompter(limit=60, max_new_tokens=10, passage_length=1000)
    prompt, cut = tight.prompt("what is it?", [long, long])
    assert cut
    assert not tight.prompt("what is it?", ["this"])[1]
    assert 25 < len(prompt) <= 50
    assert "what is it?" in text_of(prompt)
    with pytest.raises(InputError, match=r"task\.data: the question 'word word .* is longer than the model's limit"):
        tight.prompt(long, ["short"])
    with pytest.raises(InputError, match=r"task\.max_new_tokens: the model's limit is 60 tokens"):
        prompter(limit=60, max_new_tokens=55)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ query }}", "'query' is undefined"),
        ("{{ question", "unexpected end of template"),
        ("{{ question + 1 }}", "can only concatenate str"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ passages[1] }}", "has no element 1"),
        ("{{ question.__class__.__mro__ }}", "access to attribute '__class__' .* is unsafe"),
    ],
)
def test_wrong_template_is_refused(template, expected) -> None:
    with pytest.raises(InputError, match=rf"task\.template: .*{expected}"):
        prompter(template=template)


@pytest.mark.parametrize("place", ["model", "study file"])
def test_endless_templates_are_refused(monkeypatch, place) -> None:
    """A model from elsewhere may bring one in its files."""
    monkeypatch.setattr(prompts, "_SECONDS", 0.2)
    endless = "{% for i in range(99999) %}" * 5 + "x" + "{% endfor %}" * 5
    made = tokenizer()
    if place == "model":
        made.chat_template = endless
        with pytest.raises(InputError, match=r"model\.source: the chat template .* does not end within 0.2 s"):
            PromptBuilder(answer_config(), made, 256)
    else:
        with pytest.raises(InputError, match=r"task\.template: does not end within 0.2 s"):
            PromptBuilder(answer_config(template=endless), made, 256)
