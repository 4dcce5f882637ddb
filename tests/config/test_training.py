import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rank_search.config import AdapterConfig, InitConfig, TrainingConfig

rates = st.floats(1e-6, 1e-1)


@given(rates, st.none() | rates, st.floats(0.1, 100))
def test_factor_applies_to_the_adapters_and_not_to_the_head(rate, head_rate, factor) -> None:
    training = TrainingConfig(learning_rate=rate, head_learning_rate=head_rate)
    faster = training.with_adapters_at(factor)
    assert faster.learning_rate == pytest.approx(factor * rate)
    assert faster.rate_of_head == training.rate_of_head == (head_rate or rate)
    unchanged = {"learning_rate", "head_learning_rate"}
    assert faster.model_dump(exclude=unchanged) == training.model_dump(exclude=unchanged)


@pytest.mark.parametrize("name", ["none", "token-dropout", "my_module:change", "package.module:change"])
def test_augmentations(name) -> None:
    assert TrainingConfig(augmentation=name).augmentation == name


@pytest.mark.parametrize(
    "wrong",
    [
        {"augmentation": "my-module:change"},
        {"augmentation": "module:"},
        {"warmup": 1.0},
        {"weight_decay": -0.1},
        {"batch_size": 0},
        {"precision": "float16"},
    ],
    ids=str,
)
def test_wrong_values_are_refused(wrong) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TrainingConfig(**wrong)


def test_adapters_of_wrong_values_are_refused() -> None:
    for wrong in ({"scale": "alpha"}, {"alpha": 0}, {"dropout": 1}, {"rank": 8}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            AdapterConfig(**wrong)
    with pytest.raises(ValidationError, match="std"):
        InitConfig(std=0)
