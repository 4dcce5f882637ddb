import json

from rank_search.core.errors import TrainingFailed
from tests.bench import Landscape
from tests.conftest import in_process


def test_json_is_one_object_and_nothing_else(bench, command) -> None:
    bench.search(6)
    result = command("status", str(bench.folder.path), "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    content = json.loads(result.stdout)
    assert content["study"] == "small"
    assert content.keys() == {"study", "state", "trials", "front", "hypervolume", "failures", "failure_kinds"}
    assert content["trials"] == {"COMPLETE": 6}


def test_status_tells_failures_by_reason(bench, command) -> None:
    bench.search(6, Landscape({1: TrainingFailed("boom"), 3: TrainingFailed("boom")}))
    result = command("status", str(bench.folder.path))
    assert "small: idle; trials: 4 complete, 2 fail; hypervolume" in result.stdout
    assert "failed 2 ×: boom" in result.stdout


def test_control_characters_of_a_reason_do_not_reach_the_terminal(bench, command) -> None:
    bench.search(6, Landscape({1: TrainingFailed("boom\x1b[2J\rall is well")}))
    result = command("status", str(bench.folder.path))
    assert r"failed 1 ×: boom\x1b[2J\rall is well" in result.stdout
    assert "\x1b" not in result.stdout


def test_kinds_of_failures_are_counted(bench) -> None:
    bench.search(6, Landscape({1: TrainingFailed("boom"), 3: TrainingFailed("no memory", "out of memory")}))
    _, out, _ = in_process("status", str(bench.folder.path))
    (line,) = [line for line in out.splitlines() if line.startswith("failures: ")]
    assert sorted(line.removeprefix("failures: ").split(", ")) == ["1 error", "1 out of memory"]
