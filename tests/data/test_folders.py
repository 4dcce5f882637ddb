import pytest

from rank_search.core.errors import InputError
from rank_search.data.folders import check_whole, part_files, part_names


def names(folder, name: str) -> list[str]:
    return [str(path.relative_to(folder)) for path in part_files(folder, name, "task.data.train")]


def touch(folder, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).touch()


def test_a_part_is_all_its_shards_in_their_order(tmp_path) -> None:
    shards = [f"train-{i:05d}-of-00012.parquet" for i in range(12)]
    touch(tmp_path, *shards[::-1], "test-00000-of-00001-abc123.parquet", "notes.txt", ".train.csv")
    assert names(tmp_path, "train") == shards
    assert names(tmp_path, "test") == ["test-00000-of-00001-abc123.parquet"]
    assert part_names(tmp_path) == ["test", "train"]


def test_copy_of_a_hub_repository_has_its_parts_in_the_folder_data(tmp_path) -> None:
    touch(
        tmp_path, "README.md", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test.csv"
    )
    assert names(tmp_path, "train") == ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    assert names(tmp_path, "test") == ["data/test.csv"]
    assert names(tmp_path, "data/test.csv") == ["data/test.csv"]


@pytest.mark.parametrize(
    ("files", "name", "expected"),
    [
        (
            ["train.csv", "train.jsonl"],
            "train",
            r"'train' may be any of train\.csv, train\.jsonl; write the name of one",
        ),
        (
            ["train.csv", "data/train.csv"],
            "train",
            r"'train' may be any of data/train\.csv, train\.csv; write the name",
        ),
        (["train.csv", "train.csv.gz"], "train", r"'train' may be any of train\.csv, train\.csv\.gz; write the name"),
        (["a-00001-of-00002.csv"], "a", r"'a' in .* lacks the shard 00000 of 2; download the data again"),
        (["a-00000-of-00002.csv"], "a", r"'a' in .* lacks the shard 00001 of 2; download the data again"),
        (["a-00000-of-00001.csv", "a-00000-of-00001-ff.csv"], "a", r"'a' in .* has shards of two versions"),
        (["a-00000-of-00002.csv", "a-00001-of-00002.csv"], "a-00000-of-00002.csv", r"is one of 2 shards; .* write 'a'"),
        (["train.csv"], "trian.csv", r"'trian\.csv' is not a file in .*; did you mean 'train\.csv'\?"),
        (["plain_text/train.csv"], "train", r"its data is in the folders plain_text; name one of them as the source"),
    ],
)
def test_what_a_name_may_not_be_is_refused(tmp_path, files, name, expected) -> None:
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=rf"^task\.data\.train: .*{expected}"):
        part_files(tmp_path, name, "task.data.train")


def test_a_single_shard_of_one_is_whole(tmp_path) -> None:
    check_whole(tmp_path / "train-00000-of-00001.parquet", "task.data.source")
    with pytest.raises(InputError, match=r"task\.data\.source: 'train-00000-of-00002\.parquet' is one of 2 shards"):
        check_whole(tmp_path / "train-00000-of-00002.parquet", "task.data.source")
