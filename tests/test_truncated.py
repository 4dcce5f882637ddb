"""Any file of a study cut short, as by a machine that lost its power: the same command goes on, or says what to do."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import yaml

from tests.classifier import config
from tests.conftest import in_process

pytestmark = pytest.mark.training
KINDS = {
    "study.db": "study.db",
    "study.yaml": "study.yaml",
    "identity": "identity",
    "test.json": "test.json",
    "result": "results/0001.json",
    "confirmation": "confirmations/*.json",
    "adapter": "adapters/*/adapter_model.safetensors",
    "adapter config": "adapters/*/adapter_config.json",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, place):
    """A folder in which a study of every kind of training has run."""
    folder = tmp_path_factory.mktemp("truncated")
    search = {"trials": 8, "repeats": 2, "verdict_seeds": 1, "pack": 2, "baselines": ["svd"]}
    settings = config(place, executor={"kind": "local"}, search=search)
    (folder / "study.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True)))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        code, _, said = in_process("run", "study.yaml")
    assert code == 0, said
    return folder


@pytest.mark.parametrize("share", [0.5, 0.0])
@pytest.mark.parametrize("kind", KINDS)
def test_study_goes_on_or_says_what_to_do(whole, tmp_path, monkeypatch, kind, share) -> None:
    """After `doctor --fix` at the latest; but for the database, of which there is no second copy."""
    shutil.copytree(whole, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    file = sorted((tmp_path / "copy" / "studies" / "small").glob(KINDS[kind]))[0]
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])

    code, _, said = in_process("run", "study.yaml", "--set", "search.trials=10")
    assert "Traceback" not in said
    if code != 0:
        assert code in {1, 2}
        last = said.strip().splitlines()[-1]
        assert str(file.name) in last or re.search(r"trial \d+", last), said
        in_process("doctor", "small", "--fix")
        code, _, said = in_process("run", "study.yaml", "--set", "search.trials=10")
    if kind == "study.db":
        assert code in {0, 1, 2}
        return
    assert code == 0, said
    code, out, said = in_process("status", "small", "--json")
    assert code == 0, said
    assert json.loads(out)["trials"].keys() == {"COMPLETE"}
