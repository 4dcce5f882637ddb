"""Files and outcomes between processes."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rank_search.core.errors import TrainingFailed
from rank_search.core.evaluation import Evaluation
from rank_search.core.job import Died, FineTuned
from rank_search.executors.payload import FolderPayload, picklable

names = st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}\.bin)?", fullmatch=True)


@settings(max_examples=25)
@given(st.dictionaries(names.map(lambda name: f"{name}.file"), st.binary(max_size=20), max_size=5))
def test_folder_that_is_written_holds_the_same_files(tmp_path_factory, files) -> None:
    folder = tmp_path_factory.mktemp("payload") / "a"
    payload = FolderPayload(files)
    payload.write(folder)
    assert FolderPayload.from_folder(folder) == payload
    assert list(FolderPayload.from_folder(folder).files) == sorted(files, key=lambda name: name.split("/"))


def test_written_folder_replaces_the_one_before(tmp_path) -> None:
    FolderPayload({"old": b"1", "sub/old": b"2"}).write(tmp_path / "a")
    FolderPayload({"new": b"3"}).write(tmp_path / "a")
    assert FolderPayload.from_folder(tmp_path / "a").files == {"new": b"3"}


def test_outcome_brings_its_adapter_through_pickle(tmp_path) -> None:
    weights = [b"weights"]

    def save(folder) -> None:  # a closure, which pickle refuses
        folder.mkdir()
        (folder / "adapter").write_bytes(weights[0])

    outcome = FineTuned(Evaluation("f1", {"f1": [0.5]}), (1.0,), 2.0, save)
    with pytest.raises(AttributeError, match=r"local object|local"):
        pickle.dumps(outcome)
    sent = pickle.dumps(picklable(outcome))
    weights[0] = b"of a later training"
    received = pickle.loads(sent)
    received.save_adapter(tmp_path / "a")
    assert (tmp_path / "a" / "adapter").read_bytes() == b"weights"
    assert (received.evaluation, received.losses, received.seconds) == (outcome.evaluation, (1.0,), 2.0)


@pytest.mark.parametrize(
    "outcome",
    [
        FineTuned(Evaluation("f1", {"f1": [0.5]}), (), 2.0, None),
        TrainingFailed("no memory", "out of memory"),
        Died(),
    ],
)
def test_outcomes_without_an_adapter_are_as_they_were(outcome) -> None:
    assert picklable(outcome) is outcome
