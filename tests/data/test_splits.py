from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rank_search.config import ClassificationConfig, DataConfig
from rank_search.core.errors import InputError
from rank_search.data.labelled import load_labelled
from rank_search.data.splits import LEAST_SELECTION, Part, Splits, selection_count, selection_of, split


@dataclass(frozen=True)
class Item:
    group: str
    number: int


def settings(**data) -> ClassificationConfig:
    sizes = {name: data.pop(name) for name in ("validation_size", "selection_size", "test_size") if name in data}
    return ClassificationConfig(kind="classification", data={"source": "x", **data}, **sizes)


def split_items(parts: dict[str, list[Item]], config: ClassificationConfig) -> Splits[Item]:
    return split(
        {part: Part(found) for part, found in parts.items()},
        config,
        text=lambda item: f"{item.group} {item.number}",
        group=lambda item: item.group,
    )


items = st.lists(st.integers(1, 4), min_size=10, max_size=40).map(
    lambda sizes: [Item(f"g{i}", j) for i, size in enumerate(sizes) for j in range(size)]
)


@given(items, st.integers(0, 5), st.randoms(use_true_random=False))
def test_parts_do_not_overlap_and_do_not_depend_on_the_order_of_rows(rows, seed, draw) -> None:
    found = split_items({"train": rows}, settings(seed=seed))
    parts = [set(found.train), set(found.validation), set(found.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    groups = [{item.group for item in part} for part in parts]
    assert not groups[0] & (groups[1] | groups[2])
    assert not groups[1] & groups[2]
    shuffled = draw.sample(rows, len(rows))
    assert len(found.validation) <= max(1, round(len(rows) / 8)) >= len(found.test)
    again = split_items({"train": shuffled}, settings(seed=seed))
    assert [set(part) for part in (again.train, again.validation, again.test)] == parts


def test_seed_and_sizes() -> None:
    rows = [Item(f"g{i}", i) for i in range(400)]
    found = split_items({"train": rows}, settings(validation_size=20, held_out=0.25))
    assert (len(found.train), len(found.validation), len(found.test)) == (280, 20, 100)
    other = split_items({"train": rows}, settings(validation_size=20, held_out=0.25, seed=1))
    assert other.validation != found.validation
    assert other.fingerprint != found.fingerprint


def test_given_parts_are_kept_and_limited_to_their_sizes() -> None:
    parts = {name: [Item(f"{name}{i}", i) for i in range(50)] for name in ("train", "validation", "test")}
    found = split_items(parts, settings(test_size=30))
    assert set(found.train) == set(parts["train"])
    assert set(found.validation) == set(parts["validation"])
    assert len(found.test) == 30
    assert set(found.test) < set(parts["test"])


def test_too_little_data_is_refused() -> None:
    rows = [Item("one", i) for i in range(50)]
    with pytest.raises(InputError, match=r"task\.data: train is empty: the data has 50 training rows in 1 groups"):
        split_items({"train": rows}, settings())


def test_fingerprint_changes_with_anything() -> None:
    item = [Item("a", i) for i in range(4)]
    prints = {
        Splits(train, validation, test).fingerprint
        for train, validation, test in (
            ((item[0],), (item[1],), (item[2],)),
            ((item[1],), (item[0],), (item[2],)),
            ((item[0], item[3]), (item[1],), (item[2],)),
            ((item[3], item[0]), (item[1],), (item[2],)),
        )
    }
    assert len(prints) == 4


def labelled(tmp_path, train: str, test: str | None = None, **data) -> Splits:
    (tmp_path / "train.csv").write_text("text,label\n" + train)
    if test:
        (tmp_path / "test.csv").write_text("text,label\n" + test)
        data["test"] = "test.csv"
    source = DataConfig(source=str(tmp_path), train="train.csv", **data)
    return load_labelled(ClassificationConfig(kind="classification", data=source))


def test_class_that_training_lacks_is_named(tmp_path) -> None:
    train = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40))
    with pytest.raises(InputError, match=r"task\.data\.test: test has the class 'zebra', which training lacks"):
        labelled(tmp_path, train, "stripes,zebra\n")


def test_rare_class_stays_in_training(tmp_path) -> None:
    rare = [f"rare {i},c{i}\n" for i in range(20)]
    train = "".join([*rare, *(f"text {i},{'ab'[i % 2]}\n" for i in range(60))])
    splits = labelled(tmp_path, train, held_out=0.3)
    assert {f"c{i}" for i in range(20)} < {example.label for example in splits.train}
    assert splits.validation
    assert {example.label for example in splits.validation} <= {"a", "b"}


def test_one_class_is_no_classification(tmp_path) -> None:
    with pytest.raises(InputError, match=r"task\.columns\.label: training has 1 class"):
        labelled(tmp_path, "".join(f"text {i},a\n" for i in range(40)))


def test_held_out_data_that_was_trained_on_is_refused(tmp_path) -> None:
    train = [f"text {i},{'ab'[i % 2]}\n" for i in range(40)]
    other = [f"other {i},{'ab'[i % 2]}\n" for i in range(40)]
    message = r"task\.data\.test: 11 of 20 texts of test are in train too, and parts must not overlap"
    with pytest.raises(InputError, match=message):
        labelled(tmp_path, "".join(train), "".join(train[:11] + other[:9]))
    with pytest.raises(InputError, match=message):  # labels and case do not count
        labelled(tmp_path, "".join(train), "".join(f"TEXT  {i},a\n" for i in range(11)) + "".join(other[:9]))
    # Real data sets repeat a few short texts.
    found = labelled(tmp_path, "".join(train), "".join(train[:10] + other[:10]))
    assert len(found.test) == 20
    assert sum(int(note.split()[0]) for note in found.notes if note.endswith("are in train too")) == 8
    assert "2 of 20 texts of test are in validation too" in found.notes  # which is split off from train


def test_test_data_that_is_the_validation_data_is_refused(tmp_path) -> None:
    """Under two names."""
    rows = "text,label\n" + "".join(f"other {i},{'ab'[i % 2]}\n" for i in range(20))
    (tmp_path / "validation.csv").write_text(rows)
    train = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40))
    with pytest.raises(InputError, match=r"task\.data\.test: 20 of 20 texts of test are in validation too"):
        labelled(tmp_path, train, rows.removeprefix("text,label\n"), validation="validation.csv")


def test_what_is_not_used_is_counted(tmp_path) -> None:
    parts = {name: [Item(f"{name}{i}", i) for i in range(50)] for name in ("train", "validation", "test")}
    assert split_items(parts, settings()).notes == ()
    assert split_items(parts, settings(test_size=30)).notes == (
        "20 of 50 examples of test are not used: task.test_size is 30",
    )
    assert split_items(parts, settings(validation_size=20, selection_size=0)).notes == (
        "30 of 50 examples of validation are not used: task.validation_size is 20, and task.selection_size 0",
    )
    large = [Item(f"g{i}", j) for i in range(3) for j in range(40)]  # a group is larger than a part may be
    found = split_items({"train": large}, settings())
    used = len(found.train) + len(found.validation) + len(found.test)
    reason = "their group is too large to be held out"
    assert found.notes == (f"{120 - used} of 120 examples of train are not used: {reason}",)


def test_examples_for_the_choice_are_split_off_beside_those_of_the_search() -> None:
    rows = [Item(f"g{i}", 0) for i in range(4000)]
    found = split_items({"train": rows}, settings(validation_size=500, selection_size=400))
    assert (len(found.validation), found.selection, len(found.test)) == (900, 400, 500)
    assert (selection_of(found, "validation"), selection_of(found, "test")) == (400, 0)
    without = split_items({"train": rows}, settings(validation_size=500, selection_size=0))
    assert (len(without.validation), without.selection) == (500, 0)
    assert without.validation == found.validation[:500]


def test_a_validation_part_is_divided_in_two_where_it_is_large_enough() -> None:
    parts = {name: [Item(f"{name}{i}", i) for i in range(800)] for name in ("train", "validation", "test")}
    found = split_items(parts, settings())
    assert (len(found.validation), found.selection) == (800, 400)
    assert len(found.train) == 800
    short = split_items({**parts, "validation": parts["validation"][:597]}, settings())
    assert (len(short.validation), short.selection) == (500, 0)


@given(st.integers(1, 3000), st.integers(1, 1000), st.integers(0, 1000))
def test_too_few_examples_decide_nothing_and_are_not_set_apart(available, validation, selection) -> None:
    count = selection_count(settings(validation_size=validation, selection_size=selection), available)
    assert count == 0 or LEAST_SELECTION <= count <= min(selection, available)


def test_error_about_a_row_names_its_file(tmp_path) -> None:
    train = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40))
    with pytest.raises(InputError, match=r"test\.csv: row 2 is empty in column 'label'") as raised:
        labelled(tmp_path, train, "fine,a\nunlabelled,\n")
    assert raised.value.file == str(tmp_path / "test.csv")


def test_same_file_twice_is_refused(tmp_path) -> None:
    train = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40))
    (tmp_path / "train.csv").write_text("text,label\n" + train)
    source = DataConfig(source=str(tmp_path), train="train.csv", test="train.csv")
    with pytest.raises(InputError, match=r"task\.data\.test: 'train\.csv' is used as train already"):
        load_labelled(ClassificationConfig(kind="classification", data=source))
