from pathlib import Path

import pytest
import yaml

from rank_search.config import StudyConfig, load_config
from rank_search.core.errors import InputError

MINIMAL = {"study": "s", "model": {"source": "m"}, "task": {"kind": "retrieval"}}


def written(folder: Path, **changes) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return path


def test_resolved_yaml_is_a_study_file_of_the_same_study(tmp_path) -> None:
    config = load_config(written(tmp_path, space={"targets": ["query", "value"]}, seed=7))
    again = tmp_path / "again.yaml"
    again.write_text(config.to_yaml())
    assert load_config(again) == config


def test_frozen_settings_leave_out_the_budget_alone(tmp_path) -> None:
    path = written(tmp_path)
    assert load_config(path, ["search.trials=99", "search.max_failures=9"]).frozen() == load_config(path).frozen()
    assert load_config(path, ["search.sampler=gp"]).frozen() != load_config(path).frozen()


def test_every_field_is_described() -> None:
    def undescribed(model, prefix=""):
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                yield from undescribed(inner, f"{prefix}{name}.")
            elif not field.description and name != "kind":
                yield prefix + name

    assert list(undescribed(StudyConfig)) == []


JOINT = ["space.learning_rate=[1e-4, 1e-2]", "space.alpha=[1, 16]", "space.dropout=[0, 0.2]"]


def test_settings_beside_the_ranks(tmp_path) -> None:
    config = load_config(written(tmp_path), [*JOINT, "space.augmentation=true", "training.augmentation=token-dropout"])
    assert config.space.learning_rate == pytest.approx((1e-4, 1e-2))
    tuned = config.tuned({"learning_rate": 0.005, "alpha": 8.0, "dropout": 0.1, "augmentation": 0})
    assert (tuned.training.learning_rate, tuned.adapter.alpha, tuned.adapter.dropout) == (0.005, 8.0, 0.1)
    assert tuned.training.augmentation == "none"
    assert tuned.training.rate_of_head == 0.005
    assert config.tuned({"augmentation": 1}).training.augmentation == "token-dropout"
    assert config.tuned({}) == config


def test_a_grid_has_no_ranges(tmp_path) -> None:
    with pytest.raises(InputError, match=r"search.sampler: grid can't try every value of space.alpha"):
        load_config(written(tmp_path), ["search.sampler=grid", "space.alpha=[1, 8]"])


def test_base_models_by_their_prefix(tmp_path) -> None:
    assert [*load_config(written(tmp_path)).base_models] == [""]
    task = {"kind": "rag", "data": "x", "retriever": {"source": "r"}}
    both = load_config(written(tmp_path, task=task)).base_models
    assert {prefix: model.source for prefix, model in both.items()} == {"retriever.": "r", "generator.": "m"}
