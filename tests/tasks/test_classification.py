import math
import tempfile
import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from rank_search.config import ClassificationConfig, ModelConfig
from rank_search.core.errors import InputError
from rank_search.core.evaluation import Evaluation
from rank_search.core.job import no_callback
from rank_search.data.labelled import LabelledText
from rank_search.data.splits import Splits
from rank_search.executors.local import LocalExecutor
from rank_search.models.load import load
from rank_search.models.modules import build_space
from rank_search.tasks.classification import ClassificationTask, score_classes
from tests.bench import study_config
from tests.jobs import job_for
from tests.small_models import train
from tests.tasks.conftest import SIZES, TRAINING, classifier, labelled, tokenizer

pytestmark = pytest.mark.training

CONFIG = study_config(space={"ladder": [0, 2], "group_by": "layer"})
CLASSIFIED = {"kind": "classification", "data": "x"}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@settings(max_examples=40)
@given(st.integers(2, 5), st.integers(2, 30), st.data())
def test_means_are_scikit_learns_metrics(classes, count, data) -> None:
    right = data.draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    given_ = data.draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    values = score_classes(torch.eye(classes)[given_], right)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where there is a single class
        assert mean(values["accuracy"]) == pytest.approx(accuracy_score(right, given_), abs=1e-6)
        assert mean(values["macro-f1"]) == pytest.approx(f1_score(right, given_, average="macro"), abs=1e-5)
        assert mean(values["mcc"]) == pytest.approx(matthews_corrcoef(right, given_), abs=1e-4)


def test_standard_error_of_a_mean_is_the_plain_one() -> None:
    """Where the metric is a mean, pseudo-values are the values: checked on accuracy's own jackknife."""
    from rank_search.tasks.classification import _pseudo_values

    right = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1])
    given_ = torch.tensor([0, 1, 1, 1, 2, 2, 2, 0])
    values = _pseudo_values(lambda a, b: float((a == b).double().mean()), given_, right)
    assert values == pytest.approx((right == given_).double().tolist())


def test_standard_error_of_macro_f1_is_about_the_bootstraps() -> None:
    draw = torch.Generator().manual_seed(0)
    right = torch.randint(0, 3, (300,), generator=draw)
    given_ = torch.where(torch.rand(300, generator=draw) < 0.7, right, torch.randint(0, 3, (300,), generator=draw))
    values = score_classes(torch.eye(3)[given_], right.tolist())["macro-f1"]
    found = Evaluation("macro-f1", {"macro-f1": values}).standard_error
    resampled = []
    for _ in range(400):
        rows = torch.randint(0, 300, (300,), generator=draw)
        resampled.append(f1_score(right[rows], given_[rows], average="macro"))
    assert found == pytest.approx(torch.tensor(resampled).std().item(), rel=0.15)


def test_logits_that_are_not_finite_have_no_metric() -> None:
    logits = torch.zeros(3, 4)
    logits[1, 2] = math.nan
    assert all(math.isnan(value) for metric in score_classes(logits, [0, 1, 2]).values() for value in metric)


def test_evaluation_equals_one_text_at_a_time(classification) -> None:
    (found,) = classification.evaluate("validation")
    for i, example in enumerate(classification._data.validation):
        tokens = classification._classifier.tokenizer(example.text, return_tensors="pt")
        with torch.no_grad():
            logits = classification.backbone(**{k: tokens[k] for k in ("input_ids", "attention_mask")}).logits[0]
        assert found.outputs[i] == int(logits.argmax())
        assert found.values["accuracy"][i] == float("abc"[int(logits.argmax())] == example.label)


def test_head_is_what_stands_outside_the_base_and_what_the_source_lacks(classification) -> None:
    assert classification.head == ("classifier",)
    lacking = classifier(missing=frozenset({"bert.pooler.dense.weight", "classifier.weight"}))
    task = ClassificationTask(
        ClassificationConfig(kind="classification", data="x"), TRAINING, classification._data, lacking
    )
    assert task.head == ("bert.pooler.dense", "classifier")


def test_head_is_trained_and_taken_out_again(classification) -> None:
    space = build_space(classification.backbone, CONFIG, classification.head)
    weights = {name: weight.clone() for name, weight in classification.backbone.state_dict().items()}
    modules = [type(module) for module in classification.backbone.modules()]
    for rank in (0, 2):
        result = train(classification, space.uniform(rank), steps=60, learning_rate=3e-2)
        assert sum(result.losses[-5:]) < 0.6 * sum(result.losses[:5])
        after = classification.backbone.state_dict()
        assert after.keys() == weights.keys()
        assert all(torch.equal(after[name], weight) for name, weight in weights.items())
        assert not any(weight.requires_grad for weight in classification.backbone.parameters())
    assert [type(module) for module in classification.backbone.modules()] == modules


@pytest.mark.parametrize("recipe", ["scratch", "eva", "adalora"])
def test_head_learns_at_a_rate_of_its_own_whatever_the_recipe(classification, recipe, tmp_path) -> None:
    """EVA's and AdaLoRA's adapters learn at another rate than LoRA's; their heads don't."""
    changes = {}
    for rate in (None, 1e-7):  # the latter moves no weight by more than a few millionths
        training = {**TRAINING.model_dump(), "steps": 8, "learning_rate": 1e-2, "head_learning_rate": rate}
        config = study_config(training=training, task=CLASSIFIED)
        space = build_space(classification.backbone, config, classification.head)
        job = job_for(space.uniform(2), 0, 0, recipe=recipe)
        (outcome,) = LocalExecutor(config, classification, space).train([job], no_callback)
        outcome.save_adapter(tmp_path / f"{rate}")
        head = load_file(tmp_path / f"{rate}" / "adapter_model.safetensors")["base_model.model.classifier.weight"]
        changes[rate] = (head - classification.backbone.classifier.weight).abs().mean().item()
    # AdamW takes steps of about its rate: 8 steps with warm-up and decay move a weight by 0.8e-2 and more.
    assert 1e-2 < changes[None] < 5e-2
    assert changes[1e-7] < 1e-6


@pytest.mark.parametrize("rank", [0, 2])
def test_saved_classifier_loads_by_plain_peft_head_included(classification, tmp_path, rank) -> None:
    from peft import PeftModel

    from rank_search.adapters import loaded

    space = build_space(classification.backbone, CONFIG, classification.head)
    result = train(classification, space.uniform(rank), steps=30, learning_rate=3e-2)
    result.save_adapter(tmp_path / "a")
    untrained = classification.evaluate("validation")[0].values
    assert result.evaluation.values != untrained
    with loaded(classification.backbone, tmp_path / "a"):
        assert classification.evaluate("validation")[0].values == result.evaluation.values
    assert classification.evaluate("validation")[0].values == untrained
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)  # transformers' own deprecations
        PeftModel.from_pretrained(classification.backbone, tmp_path / "a")
    assert classification.evaluate("validation")[0].values == result.evaluation.values


def test_head_is_never_adapted(classification) -> None:
    named = study_config(space={"ladder": [0, 2], "targets": ["classifier"]})
    with pytest.raises(InputError, match=r"space\.targets: 'classifier' names no linear layer"):
        build_space(classification.backbone, named, classification.head)


def test_long_texts_are_truncated_and_counted(classification) -> None:
    settings_ = ClassificationConfig(kind="classification", data="x", length=3)
    task = ClassificationTask(settings_, TRAINING, classification._data, classifier())
    assert task.cut == {"texts": (64, 64)}
    assert next(iter(task.training_batches(1, 0))).inputs["input_ids"].shape == (4, 3)


def test_examples_show_both_classes_and_the_right_one(classification) -> None:
    (before,) = classification.evaluate("test")
    after = Evaluation("accuracy", {"accuracy": [1.0] * 12}, [i % 3 for i in range(70, 82)])
    for example in classification.examples("test", before, after):
        assert example.after.answer.text == example.expected
        assert example.after.answer.right
        assert example.before.answer.right == (example.before.answer.text == example.expected)


def test_head_on_a_bfloat16_base_is_trained_in_float32(classification) -> None:
    low = classifier()
    low.model.to(torch.bfloat16)
    settings_ = ClassificationConfig(kind="classification", data="x")
    task = ClassificationTask(settings_, TRAINING, classification._data, low)
    assert {weight.dtype for weight in task.backbone.classifier.parameters()} == {torch.float32}
    space = build_space(task.backbone, CONFIG, task.head)
    result = train(task, space.uniform(2), steps=60, learning_rate=3e-2)
    assert sum(result.losses[-5:]) < 0.6 * sum(result.losses[:5])


def test_decoder_looks_at_the_last_word_whatever_shares_its_batch() -> None:
    """The tokenizer pads with a token that the model's own settings do not know as padding."""
    torch.manual_seed(0)
    config = LlamaConfig(num_labels=3, pad_token_id=0, vocab_size=30522, **SIZES)
    made = tokenizer()
    made.pad_token = made.eos_token
    folder = LlamaForSequenceClassification(config)
    with tempfile.TemporaryDirectory() as place:
        folder.save_pretrained(place)
        made.save_pretrained(place)
        loaded_ = load(ModelConfig(source=place), AutoModelForSequenceClassification, torch.device("cpu"), num_labels=3)
    data = Splits(labelled(8, 0), (LabelledText("bar", "a"), LabelledText("ben cig dop fub bar", "b")), labelled(4, 30))
    alone, together = (
        ClassificationTask(
            ClassificationConfig(kind="classification", data="x"),
            TRAINING.model_copy(update={"eval_batch_size": size}),
            data,
            loaded_,
        )
        for size in (1, 2)
    )
    batch = [alone._tokens["validation"][i] for i in (0, 1)]
    with torch.no_grad():
        one = alone.backbone(**alone._inputs(batch[:1])).logits[0]
        both = together.backbone(**together._inputs(batch)).logits[0]
    assert torch.allclose(one, both, atol=1e-5)


def test_examples_for_the_choice_are_scored_apart() -> None:
    """Macro-F1 is no mean over examples: that of the search's examples must not depend on the others."""
    data = Splits(labelled(40, 0), labelled(12, 50), labelled(12, 70), selection=5)
    settings = ClassificationConfig(kind="classification", data="x", metric="macro-f1")
    with_selection = ClassificationTask(settings, TRAINING, data, classifier())
    alone = ClassificationTask(
        settings, TRAINING, replace(data, validation=data.validation[:7], selection=0), classifier()
    )
    (evaluation,), (expected,) = with_selection.evaluate("validation"), alone.evaluate("validation")
    assert (evaluation.selection, len(evaluation.values["macro-f1"])) == (5, 12)
    assert evaluation.score == pytest.approx(expected.score)
    assert with_selection.evaluate("test")[0].selection == 0
