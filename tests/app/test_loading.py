"""From a study file to its task, its space and its metadata."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rank_search.app import loading
from rank_search.app.loading import (
    fingerprints,
    head_parameters,
    left_out_lines,
    load_study_task,
    new_metadata,
    read_prior,
    refuse_other,
)
from rank_search.core.errors import InputError
from rank_search.core.rank_curve import RankCurve
from tests.bench import SPACE, metadata, study_config
from tests.classifier import config
from tests.small_models import small_model


@pytest.fixture(scope="module")
def loaded(place):
    return load_study_task(config(place))


def test_the_space_is_of_the_tasks_model_without_its_head(loaded) -> None:
    task, space = loaded
    assert task.head == ("classifier",)
    assert len(space.shapes) == 2 * 6  # layers, and linear modules of each
    assert set(space.shapes) <= {name for name, _ in task.backbone.named_modules()}
    assert space.ladder == (0, 1, 2, 4)
    assert len(space.dimensions) == 2 * 2  # blocks


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"ladder": [0, 512]}, r"space\.ladder: rank 512 is above min\(in, out\) = 32 of 'bert\.encoder"),
        ({"targets": ["qurey"]}, r"space\.targets: 'qurey' names no linear layer"),
    ],
)
def test_a_wrong_space_is_refused_before_weights_are_loaded(place, monkeypatch, space, message) -> None:
    monkeypatch.setattr(loading, "load_task", lambda _config: pytest.fail("weights were loaded"))
    with pytest.raises(InputError, match=message):
        load_study_task(config(place, space=space))


def test_a_class_that_is_not_the_one_recorded_is_refused(place, loaded, monkeypatch) -> None:
    """A whole study would end with adapters that can't be exported."""
    other = SimpleNamespace(backbone=small_model("llama"), head=())
    monkeypatch.setattr(loading, "load_task", lambda _config: other)
    monkeypatch.setattr(loading, "uncalled_modules", lambda _task: pytest.fail("it was run"))
    with pytest.raises(InputError, match=r"model.source: .* trained as LlamaForCausalLM, but an adapter for Bert"):
        load_study_task(config(place))


def test_what_never_runs_is_not_in_the_space(place, loaded, monkeypatch) -> None:
    idle = [name for name in loaded[1].shapes if name.endswith("query")]
    monkeypatch.setattr(loading, "load_task", lambda _config: loaded[0])
    monkeypatch.setattr(loading, "uncalled_modules", lambda _task: dict.fromkeys(idle, "is never called for this task"))
    _, space = load_study_task(config(place))
    assert list(space.left_out) == idle
    assert not space.shapes.keys() & {*idle}
    assert left_out_lines(space) == [
        "not searched: bert.encoder.layer.*.attention.self.query (2), which is never called for this task"
    ]


def test_only_the_head_is_counted(loaded, small_task) -> None:
    assert head_parameters(loaded[0]) == 3 * 32 + 3
    assert head_parameters(small_task) == 0


def test_metadata_is_what_every_trial_shares(place, loaded) -> None:
    task, space = loaded
    kept = new_metadata(config(place), space, task)
    assert (kept.config, kept.space) == (config(place).frozen(), space)
    assert (kept.head, kept.head_parameters, kept.classes) == (("classifier",), 99, ("a", "b", "c"))
    assert kept.cut == {"texts": (0, 120)}
    assert (kept.data_fingerprint, kept.model_fingerprint) == (task.data_fingerprint, task.fingerprint)
    assert kept.environment["device"] == "cpu"


def test_each_start_is_a_study_of_its_own(place, loaded) -> None:
    task, space = loaded
    first, second = (new_metadata(config(place), space, task) for _ in range(2))
    assert first.identity != second.identity
    refuse_other(first, second)


KEPT = metadata()
ELSEWHERE = replace(KEPT, identity="other", environment={"device": "cuda"})


def test_another_machine_may_go_on_with_a_study() -> None:
    refuse_other(KEPT, ELSEWHERE)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            replace(ELSEWHERE, config=study_config(training={"steps": 7}).frozen()),
            "training.steps: is 7, but the study was started with 3",
        ),
        (replace(KEPT, data_fingerprint="new"), "task.data: is 'new', but the study was started with 'data'"),
        (replace(KEPT, model_fingerprint="new"), "model.source: is 'new', but the study was started with 'model'"),
        (
            replace(KEPT, config=study_config(seed=1).frozen(), data_fingerprint="new", model_fingerprint="new"),
            "seed: is 1, but the study was started with 0",
        ),
    ],
)
def test_a_study_goes_on_with_its_own_settings_data_and_model(given, line) -> None:
    with pytest.raises(InputError) as refused:
        refuse_other(KEPT, given)
    assert str(refused.value) == f"{line}; restore it, or give the study another name"


def test_a_study_goes_on_with_its_own_modules() -> None:
    fewer = replace(SPACE, shapes=dict(list(SPACE.shapes.items())[1:]))
    with pytest.raises(
        InputError, match=r"space.targets: 'layer.0.w' was searched when the study was started, by anoth"
    ):
        refuse_other(KEPT, replace(KEPT, space=fewer))
    with pytest.raises(InputError, match=r"space.targets: 'layer.0.w' was not searched"):
        refuse_other(replace(KEPT, space=fewer), KEPT)


def test_a_study_may_go_on_with_another_budget() -> None:
    changes = {"search": {"trials": 80, "repeats": 3, "verdict_seeds": 5, "max_failures": 9, "pack": 4}}
    refuse_other(KEPT, replace(KEPT, config=study_config(**changes).frozen()))


def recorded(settings) -> SimpleNamespace:
    """A study that was started with a study file."""
    return SimpleNamespace(metadata=replace(metadata(), config=settings.frozen()))


def test_record_of_a_study_runs_no_code_that_it_names(place, tmp_path, monkeypatch) -> None:
    """It may have come from elsewhere."""
    (tmp_path / "theirs.py").write_text(
        "import pathlib\npathlib.Path('ran').touch()\ndef run(text, draw): return text\n"
    )
    shutil.copytree(place / "model", tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    settings["auto_map"] = {"AutoConfig": "theirs.Config", "AutoModelForSequenceClassification": "theirs.Model"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(settings))
    shutil.copy(tmp_path / "theirs.py", tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    augmented = recorded(config(place, training={"augmentation": "theirs:run"}))
    assert fingerprints(augmented) == fingerprints(recorded(config(place)))
    theirs = {"source": str(tmp_path / "model"), "trust_remote_code": True}
    with pytest.raises(
        InputError, match=r"^model\.trust_remote_code: the record of the study wants to run Python code"
    ):
        fingerprints(recorded(config(place, model=theirs)))
    assert not (tmp_path / "ran").exists()


def test_fingerprints_are_of_data_and_model_as_they_are_now(place, loaded, tmp_path) -> None:
    task, _ = loaded
    study = recorded(config(place))
    assert fingerprints(study) == (task.data_fingerprint, task.fingerprint)
    rows = (place / "texts.jsonl").read_text()
    (tmp_path / "texts.jsonl").write_text(rows.replace("bar 0", "bar zero"))
    edited = recorded(config(place, task={"data": str(tmp_path / "texts.jsonl")}))
    data, model = fingerprints(edited)
    assert data != task.data_fingerprint
    assert model == task.fingerprint


def test_without_a_prior_there_is_no_map_to_try() -> None:
    assert read_prior(study_config(), SPACE) is None


def test_a_prior_is_the_nearest_map_of_the_space(tmp_path) -> None:
    rank_map = SPACE.uniform(2)
    (tmp_path / "curve.json").write_text(RankCurve.from_rank_map(rank_map).to_json([]))
    prior = study_config(space={"prior": str(tmp_path / "curve.json")})
    assert read_prior(prior, SPACE) == rank_map
    assert read_prior(prior, replace(SPACE, ladder=(0, 1, 4))) == SPACE.uniform(1)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, r"can't be read \(No such file"), ("{}", "holds no rank curve; name a file that export --to rank-curve")],
)
def test_a_prior_that_is_none_is_refused(tmp_path, content, problem) -> None:
    if content is not None:
        (tmp_path / "curve.json").write_text(content)
    with pytest.raises(InputError, match=rf"space\.prior: .*{problem}"):
        read_prior(study_config(space={"prior": str(tmp_path / "curve.json")}), SPACE)
