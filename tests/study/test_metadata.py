"""What a study keeps about itself: it comes back as it was, or is refused with what to do."""

import dataclasses
import json

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rank_search
from rank_search.core.errors import InputError
from rank_search.core.space import JointSetting
from rank_search.study.metadata import (
    ATTRIBUTE,
    SCHEMA,
    StudyMetadata,
    environment,
    has_moved,
    refuse_change,
    refuse_changed_settings,
    schema_of,
    version_of,
)
from rank_search.study.storage import DIRECTIONS
from tests.bench import SPACE, metadata

FULL = dataclasses.replace(
    metadata(dataclasses.replace(SPACE, joint={"alpha": JointSetting(1, 8, 4, log=True)}, transposed=("layer.0.w",))),
    head=("classifier",),
    head_parameters=7,
    classes=("no", "yes"),
    cut={"texts": (1, 9)},
    notes=("a note",),
    environment={"versions": {"rank_search": "1.2.3"}},
    model_files={"model: config.json": "0a"},
)
SETTINGS = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda values: st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(study_name="small", directions=DIRECTIONS)


@pytest.mark.parametrize("kept", [metadata(), FULL])
def test_metadata_comes_back_as_it_was(study, kept) -> None:
    assert StudyMetadata.read(study) is None
    kept.write(study)
    assert StudyMetadata.read(study) == kept
    assert schema_of(study) == SCHEMA


def test_metadata_of_a_version_that_kept_no_notes_on_data_is_read(study) -> None:
    content = dataclasses.asdict(FULL)
    del content["notes"]
    study.set_user_attr(ATTRIBUTE, content)
    assert StudyMetadata.read(study) == dataclasses.replace(FULL, notes=())


@pytest.mark.parametrize("strategy", ["finetune", "nested"])
def test_study_that_was_searched_by_nested_scores_is_refused_and_others_of_that_time_are_read(study, strategy) -> None:
    content = dataclasses.asdict(FULL)
    older = {"strategy": strategy, "nested": {"evaluations": 60}, "early_stopping": False}
    content["config"] = {**content["config"], "search": {**content["config"]["search"], **older}}
    study.set_user_attr(ATTRIBUTE, content)
    if strategy == "finetune":
        assert StudyMetadata.read(study) == FULL
    else:
        with pytest.raises(
            InputError, match=r"was started by rank_search 1\.2\.3, which keeps studies in another form"
        ):
            StudyMetadata.read(study)


def test_metadata_survives_json_as_a_storage_keeps_it() -> None:
    assert StudyMetadata.from_json(json.loads(json.dumps(dataclasses.asdict(FULL)))) == FULL


def test_study_that_was_never_started_has_no_schema_and_no_known_version(study) -> None:
    assert schema_of(study) is None
    assert version_of(study) == "?"


def test_version_and_schema_are_known_whatever_the_form(study) -> None:
    study.set_user_attr(ATTRIBUTE, {"environment": {"versions": {"rank_search": "0.0.9"}}})
    assert (schema_of(study), version_of(study)) == (1, "0.0.9"), "the first schema did not say its number"
    study.set_user_attr(ATTRIBUTE, {"schema": 3})
    assert (schema_of(study), version_of(study)) == (3, "?")


@pytest.mark.parametrize(
    "changes",
    [{"schema": SCHEMA + 1}, {"schema": 1}, {"schema": None}, {"space": None}, {"identity": None}],
    ids=str,
)
def test_metadata_of_another_form_is_refused_with_the_version_that_wrote_it(study, changes) -> None:
    content = {**dataclasses.asdict(FULL), **changes}
    study.set_user_attr(ATTRIBUTE, {name: part for name, part in content.items() if part is not None})
    with pytest.raises(InputError) as refused:
        StudyMetadata.read(study)
    assert str(refused.value) == (
        "STUDY: the study 'small' was started by rank_search 1.2.3, which keeps studies in another form; use that "
        "version, or start a study of another name"
    )


def test_environment_names_the_machine_and_what_is_installed() -> None:
    found = environment("cpu")
    assert found["device"] == "cpu"
    assert found["versions"]["rank_search"] == rank_search.__version__
    assert found["versions"].keys() >= {"torch", "transformers", "peft", "optuna"}
    assert json.loads(json.dumps(found)) == found, "it is kept as JSON"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"training": {"steps": 60, "seed": 1}}, "training.steps: is 60, but the study was started with 40"),
        ({"training": {"steps": 40}}, "training.seed: is None, but the study was started with 1"),
        ({"space": {"ladder": [0, 2]}}, "space.ladder: is [0, 2], but the study was started with [0, 1]"),
        ({"space": None}, "space: is None, but the study was started with {'ladder': [0, 1]}"),
        ({"new": 1}, "new: is 1, but the study was started with None"),
    ],
)
def test_changed_settings_are_refused_by_name(changes, problem) -> None:
    kept = {"training": {"steps": 40, "seed": 1}, "space": {"ladder": [0, 1]}}
    refuse_change(kept, {**kept})
    with pytest.raises(InputError) as refused:
        refuse_change(kept, {**kept, **changes})
    assert str(refused.value) == f"{problem}; restore it, or give the study another name"


def test_changed_data_are_refused_by_the_field_that_names_them() -> None:
    refuse_change("sha256:a", "sha256:a", "task.data")
    with pytest.raises(InputError, match=r"^task\.data: is 'sha256:b', but the study was started with 'sha256:a'"):
        refuse_change("sha256:a", "sha256:b", "task.data")


@settings(max_examples=30)
@given(SETTINGS, SETTINGS)
def test_settings_are_the_same_or_refused(kept, given_settings) -> None:
    refuse_change(kept, json.loads(json.dumps(kept)))
    if without_none(kept) != without_none(given_settings):
        with pytest.raises(InputError):
            refuse_change(kept, given_settings)


def without_none(value):
    """A setting that is absent and one that is None are the same."""
    if not isinstance(value, dict):
        return value
    kept = {name: without_none(part) for name, part in value.items()}
    return {name: part for name, part in kept.items() if part is not None}


PLACES = {
    "model": {"source": "a", "revision": "main", "sha256": None, "dtype": "float32"},
    "task": {"kind": "rag", "data": {"source": "a", "train": "x", "seed": 0}, "retriever": {"source": "a"}},
}


@pytest.mark.parametrize(
    ("path", "moves"),
    [
        (("model", "source"), True),
        (("model", "revision"), True),
        (("model", "dtype"), False),
        (("task", "data", "train"), True),
        (("task", "data", "seed"), False),
        (("task", "retriever", "source"), True),
        (("task", "kind"), False),
    ],
)
def test_places_of_data_and_models_may_change_and_nothing_else(path, moves) -> None:
    given = json.loads(json.dumps(PLACES))
    section = given
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = "new"
    assert has_moved(PLACES, given) is moves
    if moves:
        refuse_changed_settings(PLACES, given)
    else:
        with pytest.raises(InputError, match=rf"^{'.'.join(path)}: is 'new', but the study was started with"):
            refuse_changed_settings(PLACES, given)


def test_metadata_without_files_of_the_model_is_of_an_older_version() -> None:
    content = json.loads(json.dumps(dataclasses.asdict(FULL)))
    del content["model_files"]
    assert StudyMetadata.from_json(content) == dataclasses.replace(FULL, model_files={})
