import pytest
import torch
from torch.nn import functional

from rank_search.tasks.answering import IGNORED, AnswerBatch, Answerer, count_cut
from rank_search.tasks.generation import GenerationTask
from tests.tasks.conftest import tokenizer


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
    for example, value in zip(generation._encoded["test"], values, strict=True):
        ids = torch.tensor([example.prompt + example.answer])
        with torch.no_grad():
            logits = generation.backbone(input_ids=ids).logits[0].log_softmax(-1)
        start = len(example.prompt)
        tokens = [float(logits[start - 1 + i, token]) for i, token in enumerate(example.answer)]
        assert value == pytest.approx(sum(tokens) / len(tokens), abs=1e-4)


def test_answers_in_a_batch_are_those_given_one_by_one(generation) -> None:
    prompts = [example.prompt for example in generation._encoded["test"]]
    assert len({len(prompt) for prompt in prompts}) > 1 or prompts
    prompts.append(prompts[0][:-7])
    (together,) = generation._answerer.generate([prompts], 5)
    assert together == [generation._answerer.generate([[prompt]], 5)[0][0] for prompt in prompts]


def test_decoding_stops_where_the_model_says_and_is_plainly_greedy(generation) -> None:
    """A chat model's own stop tokens count beside the tokenizer's; penalties of its settings do not."""
    answerer, prompt = generation._answerer, generation._encoded["test"][0].prompt
    settings = generation.backbone.generation_config
    written = generation.backbone.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=6)[0, len(prompt) :]
    whole = answerer._tokenizer.decode(written)
    assert answerer.generate([[prompt]], 6) == [[whole]]
    settings.repetition_penalty, settings.no_repeat_ngram_size = 9.0, 1
    assert answerer.generate([[prompt]], 6) == [[whole]]
    settings.eos_token_id = [int(written[1])]
    stopping = Answerer(generation._generator, answerer._prompts, 4)
    assert stopping.generate([[prompt]], 6) == [[answerer._tokenizer.decode(written[:2])]]


def test_long_answer_is_truncated_to_the_models_limit(generation) -> None:
    example = generation._answerer.encode("what is it?", ["this"], " ".join(["word"] * 500))
    assert len(example) == 256
    assert 0 < len(example.answer) < 256
    assert example.answer_cut
    assert not example.prompt_cut


def test_prompts_and_answers_that_are_cut_are_counted(generation) -> None:
    long = " ".join(["word"] * 500)
    texts = [("this", "that"), (long, "that"), (long, "other"), ("this", long)]
    encoded = [generation._answerer.encode("what is it?", [passage], answer) for passage, answer in texts]
    assert count_cut(encoded) == {"prompts": (2, 4), "answers": (1, 4)}
