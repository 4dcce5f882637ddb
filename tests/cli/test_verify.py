"""``verify``: what it prints and its exit status; the proof itself is tested in tests/export/."""

import json
from pathlib import Path

import pytest

from rank_search.app.verify import Verification
from rank_search.export.manifest import Finding
from tests.cli.conftest import refused
from tests.conftest import in_process

FINDINGS = [
    Finding(label="peft", consumer="PEFT", version="0.21", real=True, passed=True, difference=1.5e-7, of_output=2.5e-9),
    Finding(label="vllm", consumer="vLLM", version="0.33", real=False, passed=False, note="refuses it"),
]


@pytest.fixture
def calls(monkeypatch):
    """Arguments of the verification, which is made up."""
    found = []

    def verify(folder, consumers, **options):
        found.append((folder, consumers, options))
        wanted = [finding for finding in FINDINGS if not consumers or finding.label in consumers]
        return Verification({folder: wanted}, all(finding.passed for finding in wanted))

    monkeypatch.setattr("rank_search.app.verify.verify_bundles", verify)
    return found


def test_folder_without_a_bundle(command) -> None:
    line = refused(command, "verify", ".")
    assert line.startswith("DIR: '.' holds no rank_search.json; name a folder that export wrote")


def test_json_is_one_object_and_nothing_else(calls) -> None:
    status, out, said = in_process("verify", "adapter", "--json")
    assert (status, said) == (1, "")
    content = json.loads(out)
    assert content["passed"] is False
    assert [finding["passed"] for finding in content["bundles"]["adapter"]] == [True, False]


def test_table_names_each_consumer(calls, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    status, out, _ = in_process("verify", "adapter")
    assert status == 1
    assert "adapter: largest relative difference" in out
    peft, vllm = (next(line for line in out.splitlines() if name in line) for name in ("PEFT", "vLLM"))
    assert all(word in peft for word in ("real", "1.5e-07", "2.5e-09", "pass"))
    assert all(word in vllm for word in ("modelled", "FAIL refuses it"))


def test_options_are_handed_on(calls) -> None:
    assert in_process("verify", "adapter", "--consumer", "peft", "--trust-remote-code", "--json")[0] == 0
    in_process("verify", "adapter", "--all")
    assert calls == [
        (Path("adapter"), ["peft"], {"everyone": False, "trust_remote_code": True}),
        (Path("adapter"), None, {"everyone": True, "trust_remote_code": False}),
    ]
