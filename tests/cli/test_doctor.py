"""``doctor``: what it prints and its exit status; what it finds is in tests/app/test_doctor.py."""

import json

import pytest

from tests.bench import Saving, metadata
from tests.conftest import in_process


@pytest.fixture
def left_over(bench, monkeypatch):
    """A file that a killed process left in a sound study, whose data and model are not loaded."""
    monkeypatch.setattr("rank_search.app.loading.fingerprints", lambda _study, trust_code: ("data", "model"))
    bench.search(4, Saving())
    bench.folder.claim(metadata().identity)
    path = bench.folder.path / "results" / ".0001.json.partial"
    path.write_text("{")
    return path


def test_problem_is_shown_then_fixed_then_gone(bench, left_over) -> None:
    study = str(bench.folder.path)
    problem = f"{left_over}: a killed process left it"
    move = "move it to quarantine/results/.0001.json.partial"
    assert in_process("doctor", study) == (1, f"{problem} (with --fix: {move})\n", "")
    assert in_process("doctor", study, "--fix") == (0, f"{problem} (now: {move})\n", "")
    assert in_process("doctor", study) == (0, f"{study}: nothing is wrong\n", "")


def test_json_is_one_object_and_nothing_else(bench, left_over) -> None:
    study = str(bench.folder.path)
    status, out, said = in_process("doctor", study, "--json")
    assert (status, said) == (1, "")
    (finding,) = json.loads(out)["findings"]
    assert finding == {
        "where": str(left_over),
        "problem": "a killed process left it",
        "fix": "move it to quarantine/results/.0001.json.partial",
        "fixed": False,
        "harmless": False,
    }
    status, out, said = in_process("doctor", study, "--json", "--fix")
    assert (status, json.loads(out)["findings"]) == (0, [finding | {"fixed": True}])
    assert said.startswith(f"{left_over}: a killed process left it (now: move it"), "before it is done"
    status, out, said = in_process("doctor", study, "--json")
    assert (status, json.loads(out), said) == (0, {"findings": []}, "")
