import torch

from rank_search.config import GenerationConfig
from rank_search.core.evaluation import Evaluation
from rank_search.tasks.generation import GenerationTask
from tests.embedders import small_retriever
from tests.tasks.conftest import ANSWERED, TRAINING, generator


def answer_config(**settings) -> GenerationConfig:
    return GenerationConfig(kind="generation", data="x", **settings)


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
    found = small_retriever()
    settings = answer_config(
        retriever={"source": "x"}, passages=2, template="{{ passages|join(' # ') }} ? {{ question }}"
    )
    task = GenerationTask(settings, TRAINING, ANSWERED, generator(), found)
    from sentence_transformers.util import cos_sim

    corpus = [example.passage for part in (ANSWERED.train, ANSWERED.validation, ANSWERED.test) for example in part]

    def embed(texts):
        tokens = found.tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            return found.encoder({name: tokens[name] for name in ("input_ids", "attention_mask")}, found.query)

    best = cos_sim(embed([ANSWERED.test[0].question]), embed(corpus))[0].topk(2).indices.tolist()
    text = found.tokenizer.decode(task._encoded["test"][0].prompt, skip_special_tokens=True)
    normal = [found.tokenizer.decode(found.tokenizer(corpus[i])["input_ids"], skip_special_tokens=True) for i in best]
    assert text.startswith(" # ".join(normal))
