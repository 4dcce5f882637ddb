"""A small random classifier in a folder, as a worker in another process loads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from rank_search.config import ModelConfig, StudyConfig
from rank_search.executors.local import LocalExecutor
from rank_search.models.source import locate
from rank_search.modules import build_space
from rank_search.space import Space
from rank_search.tasks.base import Task
from rank_search.tasks.load import load_task
from tests.bench import EMBEDDED
from tests.conftest import VOCABULARY


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """A folder with ``model`` and ``texts.jsonl``."""
    folder = tmp_path_factory.mktemp("executors")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    BertForSequenceClassification(BertConfig(num_labels=3, **sizes)).save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(locate(ModelConfig(source=EMBEDDED)).place).save_pretrained(folder / "model")
    rows = [{"text": f"{VOCABULARY[i % 30]} {i}", "label": "abc"[i % 3]} for i in range(120)]
    (folder / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def config(place: Path, **sections) -> StudyConfig:
    """A study file for it."""
    settings = {
        "study": "small",
        "model": {"source": str(place / "model"), "device": "cpu"},
        "task": {"kind": "classification", "data": str(place / "texts.jsonl")},
        "space": {"ladder": [0, 1, 2, 4], "group_by": "block"},
        "training": {"steps": 9, "batch_size": 4, "precision": "float32", "learning_rate": 1e-2},
        "executor": {"kind": "ray", "workers": 2},
    }
    for section, values in sections.items():
        settings[section] = {**settings.get(section, {}), **values}
    return StudyConfig.model_validate(settings)


@pytest.fixture(scope="session")
def loaded(place) -> tuple[Task, Space]:
    task = load_task(config(place))
    return task, build_space(task.backbone, config(place), task.head)


@pytest.fixture
def local(place, loaded) -> LocalExecutor:
    return LocalExecutor(config(place), *loaded)


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Ray on this machine, for all tests."""
    import ray

    from rank_search.executors.cluster import _join

    _join(None)
    yield
    ray.shutdown()
