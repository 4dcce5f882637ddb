import pytest
import torch
from torch.nn import functional

from rank_search.config import GenerationConfig
from rank_search.core.errors import InputError
from rank_search.core.evaluation import Evaluation
from rank_search.tasks.answering import IGNORED, AnswerBatch, Answerer
from rank_search.tasks.generation import GenerationTask
from rank_search.tasks.prompts import Prompter
from tests.tasks.conftest import ANSWERED, TRAINING, generator, retriever, tokenizer


def answer_config(**settings) -> GenerationConfig:
    return GenerationConfig(kind="generation", data="x", **settings)


def gradient(task: GenerationTask, batch: AnswerBatch) -> torch.Tensor:
    weight = task.backbone.model.layers[0].mlp.up_proj.weight.requires_grad_()
    task.loss(batch).backward()
    found, weight.grad = weight.grad.clone(), None
    weight.requires_grad_(requires_grad=False)
    return found


def test_labels_are_the_answers_tokens_alone(generation) -> None:
    batch = next(iter(generation.training_batches(1, 0)))
    decode = tokenizer().decode
    for ids, labels in zip(batch.inputs["input_ids"], batch.labels, strict=True):
        answer = labels[labels != IGNORED]
        assert decode(answer).startswith("number ")
        assert answer[-1] == 102
        start = int((labels != IGNORED).nonzero()[0])
        assert torch.equal(ids[start : start + len(answer)], answer)
        assert decode(ids[:start]).endswith("answer : [SEP]") or "answer :" in decode(ids[:start])


def test_no_label_of_a_prompt_token_has_any_weight(generation) -> None:
    """Labels of prompt and padding are overwritten with what the loss must not see: no gradient changes."""
    batch = next(iter(generation.training_batches(1, 0)))
    expected = gradient(generation, batch)
    assert expected.abs().max() > 0
    # By the definition, with every logit computed: only positions that predict an answer token count.
    weight = generation.backbone.model.layers[0].mlp.up_proj.weight.requires_grad_()
    logits = generation.backbone(**batch.inputs).logits[:, :-1]
    labels = batch.labels[:, 1:]
    wild = torch.where(labels == IGNORED, torch.randint_like(labels, 30000), labels)
    losses = functional.cross_entropy(logits.flatten(0, 1), wild.flatten(), reduction="none").view(labels.shape)
    (losses * (labels != IGNORED)).sum().div((labels != IGNORED).sum()).backward()
    assert torch.allclose(weight.grad, expected, atol=1e-7)


def test_prompt_tokens_get_no_gradient_through_their_own_prediction(generation) -> None:
    """The loss does not change when a prompt token is swapped for another that no answer token can see."""
    batch = next(iter(generation.training_batches(1, 0)))
    loss = generation.loss(batch)
    after_answer = dict(batch.inputs)
    ids = after_answer["input_ids"].clone()
    ids[after_answer["attention_mask"] == 0] = 77
    after_answer["input_ids"] = ids
    assert torch.equal(generation.loss(AnswerBatch(after_answer, batch.labels)), loss)


def test_loss_without_logits_to_keep_is_the_same(generation) -> None:
    batch = next(iter(generation.training_batches(1, 0)))
    kept = generation.loss(batch)
    generation._answerer._keeps_logits = False
    assert torch.allclose(generation.loss(batch), kept)


def test_log_likelihood_equals_one_example_at_a_time(generation) -> None:
    values = generation.evaluate("test")[0].values["log-likelihood"]
    for taught, value in zip(generation._taught["test"], values, strict=True):
        ids = torch.tensor([taught.prompt + taught.answer])
        with torch.no_grad():
            logits = generation.backbone(input_ids=ids).logits[0].log_softmax(-1)
        start = len(taught.prompt)
        tokens = [float(logits[start - 1 + i, token]) for i, token in enumerate(taught.answer)]
        assert value == pytest.approx(sum(tokens) / len(tokens), abs=1e-4)


def test_answers_in_a_batch_are_those_given_one_by_one(generation) -> None:
    prompts = [taught.prompt for taught in generation._taught["test"]]
    assert len({len(prompt) for prompt in prompts}) > 1 or prompts
    prompts.append(prompts[0][:-7])
    (together,) = generation._answerer.answers([prompts], 5)
    assert together == [generation._answerer.answers([[prompt]], 5)[0][0] for prompt in prompts]


def test_decoding_is_left_out_of_a_search_by_log_likelihood() -> None:
    task = GenerationTask(answer_config(max_new_tokens=4), TRAINING, ANSWERED, generator(), None)
    assert task.evaluate("validation")[0].values.keys() == {"log-likelihood"}
    assert task.evaluate("test")[0].values.keys() == {"log-likelihood", "f1", "exact-match"}


def test_examples_show_question_answer_and_what_is_right(generation) -> None:
    (before,) = generation.evaluate("test")
    after = Evaluation("f1", {"f1": [1.0] * 7}, ["Number 42!"] * 7)
    shown = {example.text: example for example in generation.examples("test", before, after)}
    for text, example in shown.items():
        number = text.rstrip("?").split()[-1]
        assert example.expected == f"number {number} / {number}"
        assert example.after.answer.right == (number == "42")
        assert example.before.passages == ()


def test_passages_of_a_retriever_stand_in_the_prompt_best_first() -> None:
    found = retriever()
    settings = answer_config(
        retriever={"source": "x"}, passages=2, template="{{ passages|join(' # ') }} ? {{ question }}"
    )
    task = GenerationTask(settings, TRAINING, ANSWERED, generator(), found)
    from sentence_transformers.util import cos_sim

    corpus = [of.passage for part in (ANSWERED.train, ANSWERED.validation, ANSWERED.test) for of in part]

    def embed(texts):
        tokens = found.tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            return found.encoder({name: tokens[name] for name in ("input_ids", "attention_mask")})

    best = cos_sim(embed([ANSWERED.test[0].question]), embed(corpus))[0].topk(2).indices.tolist()
    text = found.tokenizer.decode(task._taught["test"][0].prompt, skip_special_tokens=True)
    normal = [found.tokenizer.decode(found.tokenizer(corpus[i])["input_ids"], skip_special_tokens=True) for i in best]
    assert text.startswith(" # ".join(normal))


def prompter(limit: int = 256, **settings) -> Prompter:
    return Prompter(answer_config(**settings), tokenizer(), limit)


def text_of(ids: list[int]) -> str:
    return tokenizer().decode(ids, skip_special_tokens=True)


def test_template_and_chat_template() -> None:
    own = prompter(template="Q {{ question }} C {{ context }} N {{ passages|length }}").prompt("why", ["one", "two"])
    assert text_of(own) == "q why c one two n 2"
    made = tokenizer()
    said = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
    made.chat_template = said + "{% if add_generation_prompt %} [bot]{% endif %}"
    chat = Prompter(answer_config(), made, 256)
    assert text_of(chat.prompt("why?", ["because"])).startswith("[ user ] answer the question in a few words")
    assert text_of(chat.prompt("why?", ["because"])).endswith("question : why? [ bot ]")
    # The chat template writes the special tokens itself.
    assert 101 not in chat.prompt("why?", ["because"])


def test_template_may_name_each_passage_that_a_retriever_finds() -> None:
    two = prompter(template="{{ passages[1] }} {{ question }}", retriever={"source": "x"}, passages=2)
    assert text_of(two.prompt("why", ["one", "two"])) == "two why"


def test_tokenizer_without_an_end_is_refused() -> None:
    made = tokenizer()
    made.eos_token = None
    with pytest.raises(InputError, match=r"model\.source: its tokenizer has no token that ends a text"):
        Prompter(answer_config(), made, 256)


def test_decoding_stops_where_the_model_says_and_is_plainly_greedy(generation) -> None:
    """A chat model's own stop tokens count beside the tokenizer's; penalties of its settings do not."""
    answerer, prompt = generation._answerer, generation._taught["test"][0].prompt
    settings = generation.backbone.generation_config
    written = generation.backbone.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=6)[0, len(prompt) :]
    whole = answerer._tokenizer.decode(written)
    assert answerer.answers([[prompt]], 6) == [[whole]]
    settings.repetition_penalty, settings.no_repeat_ngram_size = 9.0, 1
    assert answerer.answers([[prompt]], 6) == [[whole]]
    settings.eos_token_id = [int(written[1])]
    stopping = Answerer(generation._generator, answerer._prompter, 4)
    assert stopping.answers([[prompt]], 6) == [[answerer._tokenizer.decode(written[:2])]]


def test_long_passages_are_cut_and_counted() -> None:
    long = " ".join(["word"] * 50)
    texts, cut = prompter(passage_length=10).cut_passages([long, "short one"])
    assert (texts, cut) == ([" ".join(["word"] * 10), "short one"], 1)


def test_prompt_fits_the_model_whatever_the_passages() -> None:
    long = " ".join(["word"] * 500)
    tight = prompter(limit=60, max_new_tokens=10, passage_length=1000)
    prompt = tight.prompt("what is it?", [long, long])
    assert 25 < len(prompt) <= 50
    assert "what is it?" in text_of(prompt)
    with pytest.raises(InputError, match=r"task\.data: the question 'word word .* is longer than the model takes"):
        tight.prompt(long, ["short"])
    with pytest.raises(InputError, match=r"task\.max_new_tokens: the model takes 60 tokens"):
        prompter(limit=60, max_new_tokens=55)


def test_long_answer_is_cut_where_the_models_length_ends(generation) -> None:
    taught = generation._answerer.taught("what is it?", ["this"], " ".join(["word"] * 500))
    assert len(taught) == 256
    assert 0 < len(taught.answer) < 256


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
