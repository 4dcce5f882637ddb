import pytest

from rank_search.app.likely_parts import likely_parts
from rank_search.core.errors import InputError


def parts(folder, *names: str):
    for name in names:
        (folder / name).touch()
    return likely_parts(str(folder))


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        (["retrieval_train.jsonl", "latest.jsonl"], {"train": "retrieval_train.jsonl"}),
        (["pretrain.jsonl", "train_full.jsonl"], {"train": "train_full.jsonl"}),
        (["train.jsonl", "train_full.jsonl"], {"train": "train.jsonl"}),
        (
            ["myTrain.csv", "myDev.csv", "Test2.csv"],
            {"train": "myTrain.csv", "validation": "myDev.csv", "test": "Test2.csv"},
        ),
        (["train.csv", "train_test.csv", "contest.csv"], {"train": "train.csv"}),
        (["train.csv", "dev_a.csv", "dev_b.csv"], {"train": "train.csv"}),
        (["only.csv"], {"train": "only.csv"}),
        (["dev.csv", "test.csv"], {"train": "dev.csv", "test": "test.csv"}),
        (["train-00000-of-00002.csv", "train-00001-of-00002.csv", "test.csv"], {"train": "train", "test": "test.csv"}),
    ],
)
def test_parts_are_named_by_whole_words(tmp_path, names, fields) -> None:
    assert parts(tmp_path, *names).fields == fields


def test_what_is_not_used_is_named(tmp_path) -> None:
    remarks = parts(tmp_path, "train.csv", "dev_a.csv", "dev_b.csv").remarks
    assert remarks == ("Parts that are not used: dev_a.csv, dev_b.csv.",)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["train.csv", "train.jsonl"],
            r"has several parts with the word 'train' in the name \(train\.csv, train\.jsonl\)",
        ),
        (["train1.csv", "train2.csv"], r"has several parts with the word 'train' in the name"),
        (["a.csv", "b.csv"], r"has no part with the word 'train' in the name \(a\.csv, b\.csv\); name one file"),
        ([], r"holds no data file; name a file, or a folder that holds some \(in it: no other folder\)"),
    ],
)
def test_parts_that_are_not_clear_are_refused(tmp_path, names, expected) -> None:
    with pytest.raises(InputError, match=rf"^--data: .*{expected}"):
        parts(tmp_path, *names)
