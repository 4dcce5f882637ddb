"""What a study's record may ask for: no code is run by it alone."""

import pytest

from rank_search.config import recorded, refuse_code, refuse_model_code
from rank_search.core.errors import InputError
from tests.bench import EMBEDDED, study_config

TRUSTING = {"source": EMBEDDED, "trust_remote_code": True}
RAG = {"kind": "rag", "data": "questions.json", "metric": "f1", "retriever": TRUSTING}
NAMES_CODE = {
    "model.trust_remote_code": study_config(model=TRUSTING).frozen(),
    "task.retriever.trust_remote_code": study_config(task=RAG).frozen(),
    "training.augmentation": study_config(
        training={"augmentation": "theirs:run"}, space={"augmentation": True}
    ).frozen(),
}


def test_a_record_without_code_is_the_study_file() -> None:
    content = study_config(training={"augmentation": "token-dropout"}).frozen()
    assert recorded(content).frozen() == content
    refuse_code(content, trust_code=False)


@pytest.mark.parametrize("field", NAMES_CODE)
def test_a_record_turns_no_code_on(field) -> None:
    config = recorded(NAMES_CODE[field])
    assert not config.model.trust_remote_code
    assert not getattr(getattr(config.task, "retriever", None), "trust_remote_code", False)
    assert config.training.augmentation == "none"
    assert config.tuned({"augmentation": 1.0}).training.augmentation == "none"


@pytest.mark.parametrize("field", NAMES_CODE)
def test_code_of_a_record_runs_if_the_user_trusts_it_now(field) -> None:
    content = NAMES_CODE[field]
    assert recorded(content, trust_code=True).frozen() == content
    refuse_code(content, trust_code=True)
    with pytest.raises(InputError, match=rf"^{field}: the record .* if you trust that code, add --trust-remote-code$"):
        refuse_code(content, trust_code=False)


def test_a_model_is_loaded_without_the_function_that_only_training_needs() -> None:
    refuse_model_code(NAMES_CODE["training.augmentation"], trust_code=False)
    with pytest.raises(InputError, match="the record of the study wants to run Python code"):
        refuse_model_code(NAMES_CODE["model.trust_remote_code"], trust_code=False)
