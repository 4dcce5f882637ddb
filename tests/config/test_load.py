import re
from pathlib import Path

import pytest
import yaml

from rank_search.config import load_config
from rank_search.core.errors import InputError

MINIMAL = {"study": "s", "model": {"source": "m"}, "task": {"kind": "retrieval"}}


def written(folder: Path, **changes) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return path


def test_minimal_file_gets_every_default(tmp_path) -> None:
    config = load_config(written(tmp_path))
    assert config.space.ladder == (0, 1, 2, 4, 8)
    assert config.adapter.scale == "rslora"


def test_set_overrides_the_file(tmp_path) -> None:
    config = load_config(written(tmp_path), ["training.steps=5", "space.ladder=[0, 3]", "training.learning_rate=2e-3"])
    assert config.training.steps == 5
    assert config.space.ladder == (0, 3)
    assert config.training.learning_rate == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.stepz=5", "--set: training.stepz: unknown key; did you mean 'steps'?"),
        ("trainig.steps=5", "--set: trainig: unknown key; did you mean 'training'?"),
        ("adapter.init.sdt=0.1", "--set: adapter.init.sdt: unknown key; did you mean 'std'?"),
        ("training.steps=many", "--set: training.steps: 'many' is wrong: input should be a valid integer"),
        ("training.steps=true", "--set: training.steps: True is wrong"),
        ("training.steps=0", "--set: training.steps: 0 is wrong: input should be greater than 0"),
        ("training.learning_rate=.nan", "--set: training.learning_rate: nan is wrong"),
        ("space.ladder=[]", "--set: space.ladder: [] has no rank above 0; write at least one"),
        ("space.ladder=[0]", "space.ladder: [0] has no rank above 0"),
        ("space.ladder=[4, 2]", "space.ladder: [4, 2] must ascend without repeats; write [2, 4]"),
        ("space.ladder=[1, -2]", "-2 is wrong: input should be greater than or equal to 0"),
        ("space.targets=[]", "space.targets: [] is empty"),
        ("task.kind=retrival", "--set: task.kind: 'retrival' is wrong: did you mean 'retrieval'?"),
        ("adapter.alpha=true", "adapter.alpha: True is not a number; write a number"),
        ("adapter.init=eva", "adapter.init: 'eva' is wrong: it must hold fields (method, std)"),
        ("space.ladder=4", "space.ladder: 4 is wrong: it must be a list"),
        ("literal=1", "--set: literal: unknown key"),
        ("study=../elsewhere", "study: '../elsewhere' is wrong"),
        ("model.sha256=12", "model.sha256"),
        ("training.steps", "--set: 'training.steps' must read section.field=value"),
        ("study.name=x", "--set: study.name: 'study' holds a value, not fields"),
    ],
)
def test_wrong_settings_are_reported_in_one_line(tmp_path, override, expected) -> None:
    with pytest.raises(InputError) as raised:
        load_config(written(tmp_path), [override])
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_wrong_key_in_the_file_names_the_file(tmp_path) -> None:
    path = written(tmp_path, search={"trails": 3})
    with pytest.raises(InputError, match=r"study\.yaml: search\.trails: unknown key; did you mean 'trials'\?"):
        load_config(path)


def test_missing_field_is_named(tmp_path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: s\ntask: {kind: retrieval}\n")
    with pytest.raises(InputError, match=r"study\.yaml: model: is missing; add it"):
        load_config(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [", "is not YAML"),
        (b"study: a\ntraining: {steps: 1, seed: 2, steps: 3}\n", "is not YAML .*'steps' is written twice"),
        (b"- 1\n", "must be a YAML mapping"),
        (b"", "YAML mapping"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_file_that_is_no_study_file(tmp_path, content, expected) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=expected) as raised:
        load_config(path)
    assert "\n" not in str(raised.value)


def test_missing_file(tmp_path) -> None:
    with pytest.raises(InputError, match=r"absent\.yaml: no such file"):
        load_config(tmp_path / "absent.yaml")


def test_yaml_can_not_run_code(tmp_path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(InputError, match="is not YAML"):
        load_config(path)


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.yaml")), ids=str)
def test_shipped_configs_load(path) -> None:
    load_config(path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "space.alpha=[5, 6]",
            "--set: space.alpha: [5.0, 6.0] does not contain adapter.alpha = 4.0, with which the baselines",
        ),
        (
            "space.learning_rate=[1, 2]",
            "--set: space.learning_rate: [1.0, 2.0] does not contain training.learning_rate",
        ),
        ("space.dropout=[0.2, 0.1]", "--set: space.dropout: [0.2, 0.1] must be [lowest, highest]"),
        ("space.learning_rate=[0, 1]", "--set: space.learning_rate.0: 0 is wrong: input should be greater than 0"),
        ("training.head_learning_rate=1", "--set: training.head_learning_rate: only classifiers have a head; leave it"),
        (
            "space.augmentation=true",
            "--set: space.augmentation: there is no augmentation to search; set training.augmentation",
        ),
        ("training.augmentation=dropout", "--set: training.augmentation: 'dropout' is wrong"),
        ("task.data.sorce=x", "--set: task.data.sorce: unknown key; did you mean 'source'?"),
        ("task.data={source: x, held_out: 0.6}", "--set: task.data.held_out: 0.6 is wrong: input should be less"),
        ("training={steps: 1, steps: 2}", "--set: training: '{steps: 1, steps: 2}' is not a YAML value"),
        ("task.data={held_out: 0.2}", "--set: task.data.source: is missing; add it"),
        ("task.metric=accuracy", "--set: task.metric: 'accuracy' is wrong: input should be 'ndcg@10'"),
        ("task.columns.text=x", "--set: task.columns.text: unknown key; known: document, query"),
        ("task={}", "--set: task.kind: is missing; write one of retrieval, classification, generation, rag"),
        ("task={kind: generation}", "--set: task.data: is missing; add it"),
        ("task={kind: rag, data: x}", "--set: task.retriever: is missing; add it"),
        ("model.quantization=8bit", "--set: model.quantization: '8bit' is wrong: input should be 'none' or '4bit'"),
    ],
)
def test_wrong_tasks_data_and_joint_settings(tmp_path, override, expected) -> None:
    with pytest.raises(InputError) as raised:
        load_config(written(tmp_path), [override])
    assert str(raised.value).startswith(expected)
    assert "\n" not in str(raised.value)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGED = "a: &a {k: v}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 10)}]}}\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-13-45", "month must be in 1..12"),
        ("9" * 5000, "Exceeds the limit"),
        ("[" * 3000 + "]" * 3000, "it is nested too deeply"),
        ("{" * 3000, "it is nested too deeply"),
        ("\n" + "- " * 3000, "it is nested too deeply"),
        ("&a [*a]", "its aliases stand for more than 100,000 values"),
        ("{? [1] : 2}", "found unhashable key"),
        ("!!float 1e", "could not convert string to float"),
        ("!!binary '\xe9'", "failed to convert base64 data"),
    ],
)
def test_value_that_the_parser_stumbles_over_is_told_in_one_line(tmp_path, text, expected) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"study: s\nseed: {text}\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"study\.yaml: is not YAML \(.*{re.escape(expected)}") as of_file:
        load_config(path)
    with pytest.raises(
        InputError, match=rf"^--set: seed: .* is not a YAML value \(.*{re.escape(expected)}"
    ) as of_option:
        load_config(written(tmp_path), [f"seed={text}"])
    for raised in (of_file, of_option):
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 800


@pytest.mark.parametrize("bomb", [BOMB, MERGED], ids=["aliases", "merge keys"])
def test_aliases_that_stand_for_billions_of_values_are_refused_at_once(tmp_path, bomb) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(bomb)
    assert len(bomb) < 1000
    with pytest.raises(InputError, match="its aliases stand for more than 100,000 values"):
        load_config(path)


def test_few_aliases_are_taken_as_yaml_means_them(tmp_path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: s\nmodel: {source: &source m}\ntask: {kind: retrieval, data: *source}\n")
    assert load_config(path).task.data.source == "m"


@pytest.mark.parametrize(
    "settings",
    [{"seed": list(range(5_000))}, {"seed": "x" * 50_000}, {"x" * 50_000: 1}, {"task": {"kind": "x" * 50_000}}],
    ids=["a list", "a text", "a key", "a kind"],
)
def test_what_is_repeated_of_the_input_is_short(tmp_path, settings) -> None:
    with pytest.raises(InputError) as raised:
        load_config(written(tmp_path, **settings))
    assert len(str(raised.value)) < 800


def test_file_that_never_ends_is_refused() -> None:
    with pytest.raises(InputError, match="is larger than 1 MiB"):
        load_config(Path("/dev/zero"))


def test_many_keys_are_compared_in_no_time(tmp_path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("".join(f"k{i}: 1\n" for i in range(3_000)))
    with pytest.raises(InputError, match="k0: unknown key"):
        load_config(path)
