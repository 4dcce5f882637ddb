"""Records that were damaged, or edited by hand: every command says the same line, and none ends in a traceback."""

import json
import sqlite3
from contextlib import closing

import pytest

from rank_search.study.handle import Study
from tests.conftest import in_process

pytestmark = pytest.mark.slow

THIRD = "(select trial_id from trials where number = 3)"
OF_3 = f"where trial_id = {THIRD}"


def attribute(name: str, value: object) -> str:
    """Statements that give trial 3 an attribute."""
    text = value if isinstance(value, str) else json.dumps(value)
    remove = f"delete from trial_user_attributes {OF_3} and key = '{name}'"
    return (
        f"{remove}; insert into trial_user_attributes (trial_id, key, value_json) values ({THIRD}, '{name}', '{text}')"
    )


def study_attribute(name: str, text: str) -> str:
    remove = f"delete from study_user_attributes where key = '{name}'"
    return f"{remove}; insert into study_user_attributes (study_id, key, value_json) values (1, '{name}', '{text}')"


OF_TRIAL_3 = {
    "ranks are a text": (attribute("ranks", '"many"'), "ranks is 'many': input should be a valid"),
    "a rank is a text": (
        attribute("ranks", {"layer.0.w": "2"}),
        "ranks.layer.0.w is '2': input should be a valid integer",
    ),
    "a rank is below 0": (attribute("ranks", {"layer.0.w": -1}), "ranks.layer.0.w is -1: input should be greater"),
    "ranks of another model": (attribute("ranks", {"x": 1}), "ranks has 'x', which is no module of the study"),
    "no such kind": (attribute("kind", '"best"'), "kind is 'best': input should be 'search'"),
    "kind of a rival": (attribute("kind", '"baseline:svd"'), "kind is 'baseline:svd', but requested_ranks is missing"),
    "rival of no kind": (attribute("requested_ranks", {"layer.0.w": 1}), "kind is 'baseline:uniform', which no trial"),
    "seconds are a text": (attribute("seconds", '"long"'), "seconds is 'long': input should be a valid number"),
    "no seconds": (
        f"delete from trial_user_attributes {OF_3} and key = 'seconds'",
        "seconds is missing",
    ),
    "no params": (f"delete from trial_params {OF_3}", "its parameters are missing"),
    "a param beyond the ladder": (
        (f"update trial_params set param_value = 9, distribution_json = replace(distribution_json, '3', '9') {OF_3}"),
        "which is no place on a ladder of 4 ranks",
    ),
    "no values": (f"delete from trial_values {OF_3}", "its values are"),
    "one value": (f"delete from trial_values {OF_3} and objective = 1", "its values are"),
    "other values": (
        f"update trial_values set value = 7 {OF_3}",
        "its values are [7.0, 7.0], not a score",
    ),
    "a value that is NULL": (
        f"update trial_values set value = null {OF_3}",
        "can't be read (AssertionError",
    ),
    "bad JSON": (attribute("metrics", "{"), "can't be read (JSONDecodeError: "),
    "unknown state": (f"update trials set state = 'DONE' {OF_3}", "can't be read (LookupError: "),
    "a lease that is a text": (attribute("lease", '"mine"'), "lease is 'mine': input should be a valid dictionary"),
    "a lease without a pid": (attribute("lease", {"host": "here"}), "lease.driver is {'host': 'here'}: field required"),
}
OF_THE_STUDY = {
    "directions": (
        "update study_directions set direction = 'MINIMIZE' where objective = 0",
        "STUDY: the study 'small' has the objectives minimize, minimize, not maximize, minimize",
    ),
    "metadata": (study_attribute("rank_search", "{"), "{file}: the record of the study can't be read (JSONDecodeError"),
    "no metadata": (study_attribute("rank_search", "[]"), "{file}: rank_search: is [], which is never written"),
    "part of metadata": (
        'update study_user_attributes set value_json = replace(value_json, \'"identity": "small"\', \'"identity": 3\')',
        "{file}: identity: is 3, which is never written; restore the database from a copy",
    ),
    "newer tables": (
        "update alembic_version set version_num = 'v99.0.0'",
        "{file}: its tables are of another version of Optuna than",
    ),
}


@pytest.fixture
def edited(bench, tmp_path, monkeypatch):
    """Edits the database of a study; returns it, and the path of that database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rank_search.app.loading.fingerprints", lambda _study, trust_code: ("data", "model"))
    bench.search(5)
    bench.folder.claim("small")

    def edit(statements: str) -> tuple[str, str]:
        file = bench.folder.path / "study.db"
        with closing(sqlite3.connect(file)) as connection:
            connection.executescript(statements)
            connection.commit()
        return str(bench.folder.path), str(file)

    return edit


@pytest.mark.parametrize("damage", OF_TRIAL_3)
def test_damaged_trial_is_told_in_one_line_by_every_reader(edited, damage) -> None:
    statements, problem = OF_TRIAL_3[damage]
    study, file = edited(statements)
    status, out, said = in_process("status", study)
    assert (status, out) == (2, "")
    assert said.startswith(f"rank_search: {file}: trial 3: ")
    assert problem in said
    assert said.endswith("; restore the database from a copy\n")
    for command in (("choose", study), ("report", study), ("export", study, "--to", "rank-map", "--out", "out")):
        assert in_process(*command) == (2, "", said)
    status, out, _ = in_process("doctor", study)
    assert status == 1
    assert said.removeprefix("rank_search: ") in out
    assert in_process("doctor", study, "--fix")[0] == 1
    assert in_process("status", study)[2] == said, "nothing is repaired by guessing"


@pytest.mark.parametrize("damage", OF_THE_STUDY)
def test_damaged_study_is_told_in_one_line_by_every_reader(edited, damage) -> None:
    statements, problem = OF_THE_STUDY[damage]
    study, file = edited(statements)
    status, out, said = in_process("status", study)
    assert (status, out, said.count("\n")) == (2, "", 1)
    assert said.startswith(f"rank_search: {problem.format(file=file)}")
    assert in_process("doctor", study) == (2, "", said)
    assert in_process("report", study) == (2, "", said)


def test_lease_of_a_part_that_is_a_text_is_told(edited) -> None:
    study, _ = edited(study_attribute("lease:verdict", '"mine"'))
    problem = "lease:verdict: is 'mine', which is never written; restore the database from a copy"
    assert in_process("status", study) == (2, "", f"rank_search: {problem}\n")
    status, out, said = in_process("doctor", study)
    assert (status, said) == (1, "")
    assert problem in out


def test_every_damaged_trial_is_found_and_the_sound_ones_are_read(edited) -> None:
    study, _ = edited(attribute("seconds", '"long"') + "; update trials set state = 'DONE' where number = 1")
    records, problems = Study.open(study).readable_trials()
    assert [record.number for record in records] == [0, 2, 4]
    assert [problem.field for problem in problems.values()] == ["trial 1", "trial 3"]


@pytest.mark.parametrize(
    "content", ['{"values": "x"}', '{"values": {"ndcg@10": ["a"]}}', "[" * 9000, "[]", '{"losses": 3}']
)
def test_results_of_another_shape_are_told_as_damaged(edited, bench, content) -> None:
    study, _ = edited("select 1")
    bench.folder.result(3).write_text(content)
    status, out, said = in_process("report", study)
    assert (status, out) == (1, "")
    assert said == f"rank_search: {bench.folder.result(3)}: is damaged; restore it, or remove it to do without\n"
