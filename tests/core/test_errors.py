import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.core.errors import (
    InputError,
    OutOfService,
    RankSearchError,
    SearchStopped,
    TrainingFailed,
    did_you_mean,
    printable,
)


def test_every_error_is_a_rank_search_error() -> None:
    assert issubclass(OutOfService, SearchStopped)
    assert all(issubclass(error, RankSearchError) for error in (SearchStopped, TrainingFailed, InputError))


def test_input_error_names_file_field_and_problem() -> None:
    error = InputError("is  wrong;\n fix it", field="training.steps")
    assert str(error) == "training.steps: is wrong; fix it"
    in_file = error.in_file("study.yaml")
    assert str(in_file) == "study.yaml: training.steps: is wrong; fix it"
    assert (in_file.file, in_file.field, in_file.problem) == ("study.yaml", "training.steps", "is wrong; fix it")


def test_file_that_is_named_first_is_kept() -> None:
    assert InputError("is wrong", file="--set").in_file("study.yaml").file == "--set"


def test_failed_training_keeps_its_kind_between_processes() -> None:
    copy = pickle.loads(pickle.dumps(TrainingFailed("no memory left", "out of memory")))
    assert (str(copy), copy.kind) == ("no memory left", "out of memory")
    assert TrainingFailed("reason").kind == "error"


@given(st.text())
def test_printable_text_is_one_line_and_stays_the_same_when_repeated(text) -> None:
    line = printable(text)
    assert line.isprintable()
    assert printable(line) == line


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://user:secret@host/db", "postgresql://user:***@host/db"),
        ("mysql+pymysql://user:s3:cret@host:3306/db", "mysql+pymysql://user:***@host:3306/db"),
        ("postgresql:/user:secret@host/db", "postgresql:/user:***@host/db"),  # a path that lost a slash
        ("postgresql://:secret@host/db", "postgresql://:***@host/db"),
        ("postgresql://user:se@cret@host/db", "postgresql://user:***@host/db"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("sqlite:///studies/demo/study.db", "sqlite:///studies/demo/study.db"),
    ],
)
def test_passwords_are_masked(url, shown) -> None:
    assert printable(f"can't open {url}") == f"can't open {shown}"
    assert str(InputError(url)) == shown


def test_did_you_mean_names_the_most_similar_word_or_all_words() -> None:
    assert did_you_mean("stepz", ["seed", "steps", "stop"]) == "did you mean 'steps'?"
    assert did_you_mean("xyzzy", ["seed", "alpha"]) == "known: alpha, seed"
    assert did_you_mean("xyzzy", []) == "known: none"
