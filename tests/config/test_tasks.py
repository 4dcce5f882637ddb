from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from rank_search.config import DataConfig, load_config
from rank_search.core.errors import InputError

MINIMAL = {"study": "s", "model": {"source": "m"}, "task": {"kind": "retrieval"}}


def written(folder: Path, **changes) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return path


def test_data_as_text_is_its_source(tmp_path) -> None:
    short = load_config(written(tmp_path, task={"kind": "retrieval", "data": "mine.jsonl"}))
    long = load_config(written(tmp_path, task={"kind": "retrieval", "data": {"source": "mine.jsonl"}}))
    assert short == long


def test_defaults_of_each_task_and_what_it_requires(tmp_path) -> None:
    kinds = {
        "retrieval": ({}, "ndcg@10"),
        "classification": ({"data": "x"}, "accuracy"),
        "generation": ({"data": "x"}, "log-likelihood"),
        "rag": ({"data": "x", "retriever": {"source": "r"}}, "f1"),
    }
    for kind, (required, metric) in kinds.items():
        task = load_config(written(tmp_path, task={"kind": kind, **required})).task
        assert (task.kind, task.metric) == (kind, metric)
        assert (task.validation_size, task.test_size, task.data.held_out) == (500, 500, 0.125)
        for key in required:
            incomplete = {name: value for name, value in required.items() if name != key}
            with pytest.raises(InputError, match=rf"task\.{key}: is missing; add it"):
                load_config(written(tmp_path, task={"kind": kind, **incomplete}))


def test_data_of_retrieval_defaults_to_the_standard_library(tmp_path) -> None:
    assert load_config(written(tmp_path)).task.data == DataConfig(source="builtin:python-stdlib")


@pytest.mark.parametrize("share", [0, 0.41, -0.1])
def test_held_out_share_leaves_most_examples_in_train(share) -> None:
    with pytest.raises(ValidationError, match="held_out"):
        DataConfig(source="x", held_out=share)
