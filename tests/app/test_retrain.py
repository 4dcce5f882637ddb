"""Trials that are trained again come out as they did in the search: real trainings of a small random embedder."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoTokenizer, BertConfig, BertModel

from rank_search.adapters.saving import Adapter
from rank_search.app.retrain import retrain
from rank_search.app.run import run_study
from rank_search.config import ModelConfig
from rank_search.core.errors import InputError, RankSearchError, TrainingFailed
from rank_search.models.source import locate
from rank_search.study.handle import Study
from tests.bench import EMBEDDED, study_config
from tests.small_models import words

pytestmark = pytest.mark.training

UNTRAINED, UNIFORM, EVA, ADALORA = range(4)  # numbers of the trials
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def write_embedder(folder: Path) -> None:
    """Makes ``model``, and ``pairs.jsonl`` of which it can learn."""
    torch.manual_seed(0)
    BertModel(BertConfig(**SIZES)).save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(locate(ModelConfig(source=EMBEDDED)).path_or_id).save_pretrained(folder / "model")
    pairs = words(120, 0)
    rows = [{"query": query, "document": text} for query, text in zip(pairs.queries, pairs.documents, strict=True)]
    (folder / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder in which a study with EVA and AdaLoRA has run."""
    folder = tmp_path_factory.mktemp("retrain")
    write_embedder(folder)
    config = study_config(
        model={"source": str(folder / "model"), "device": "cpu"},
        task={"data": str(folder / "pairs.jsonl")},
        space={"ladder": [0, 1]},
        training={"steps": 24, "learning_rate": 4e-2},
        search={"trials": 2, "baselines": ["eva", "adalora"], "pack": 1},
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        run_study(config, None, Console(file=io.StringIO()))
    return folder


@pytest.fixture
def study(finished, monkeypatch) -> Study:
    monkeypatch.chdir(finished)
    return Study.open("small")


def saved_ranks(study: Study, number: int) -> dict[str, int]:
    """Module → rank of a trial's saved adapter."""
    factors = Adapter.load(study.folder.adapter(number)).factors
    return {name: len(a) for name, (a, _) in factors.items()}


@pytest.mark.parametrize("number", [EVA, ADALORA], ids=["eva", "adalora"])
def test_ranks_and_score_come_out_the_same_again_and_again(study, number) -> None:
    before = study.trial(number)
    uniform = study.space.uniform(1)
    assert before.rank_map != uniform  # else it would not matter which of the two a training starts from
    for _ in range(2):
        shutil.rmtree(study.folder.adapter(number))
        retrain(study, number, Console(file=io.StringIO()))
        assert saved_ranks(study, number) == before.rank_map.adapted
        assert study.folder.read_result(number)["retrained"] == pytest.approx(before.score, abs=1e-3)
        record = Study.open("small").trial(number)
        assert record == before
        assert record.attributes.requested_ranks == uniform.ranks


def test_what_was_kept_of_the_trial_stays_beside_the_new_score(study) -> None:
    before = study.folder.read_result(UNIFORM)
    said = io.StringIO()
    retrain(study, UNIFORM, Console(file=said))
    after = study.folder.read_result(UNIFORM)
    score = study.trial(UNIFORM).score
    assert after.keys() == before.keys() | {"retrained"}
    assert (after["values"], after["losses"]) == (before["values"], before["losses"])
    study.folder.check_adapter(UNIFORM)  # the digests are those of the new weights
    assert f"trial 1 was trained again: {after['retrained']:.4f}, and {score:.4f} in the search" in said.getvalue()


@pytest.mark.parametrize("difference", ["ranks", "score"])
def test_training_that_comes_out_as_another_is_not_kept(study, monkeypatch, difference) -> None:
    """As where a library, a device or a recipe has changed meanwhile."""
    record = study.trial(EVA)
    other = {"ranks": {**record.attributes.ranks, next(iter(study.space.shapes)): 3}} if difference == "ranks" else {}
    score = record.score - 0.5 if difference == "score" else record.score
    changed = replace(record, attributes=record.attributes.model_copy(update=other), score=score)
    monkeypatch.setattr(Study, "trial", lambda _study, _number: changed)
    before = study.folder.read_result(EVA)
    digests = study.folder.adapter_digests(EVA)
    with pytest.raises(
        RankSearchError, match=r"trial 2 was trained again and came out as another: .* nothing was kept"
    ):
        retrain(study, EVA, Console(file=io.StringIO()))
    assert (study.folder.read_result(EVA), study.folder.adapter_digests(EVA)) == (before, digests)


def test_untrained_model_has_nothing_to_train(study) -> None:
    with pytest.raises(TrainingFailed, match="trial 0 has nothing to train"):
        retrain(study, UNTRAINED, Console(file=io.StringIO()))
    assert "retrained" not in study.folder.read_result(UNTRAINED)


def test_changed_data_is_refused_before_anything_is_trained(study, finished, monkeypatch) -> None:
    file = finished / "pairs.jsonl"
    content = file.read_text()
    monkeypatch.setattr("rank_search.app.retrain.LocalExecutor", None)
    file.write_text(content.replace("find the", "look for the"))
    try:
        with pytest.raises(InputError, match="but the study was started with") as refused:
            retrain(study, UNIFORM, Console(file=io.StringIO()))
    finally:
        file.write_text(content)
    assert refused.value.field == "task.data"


def test_study_that_is_being_searched_is_left_alone(study) -> None:
    before = study.folder.read_result(UNIFORM)
    with study.folder.locked(), pytest.raises(RankSearchError, match="another run of this study is at work"):
        retrain(study, UNIFORM, Console(file=io.StringIO()))
    assert study.folder.read_result(UNIFORM) == before
