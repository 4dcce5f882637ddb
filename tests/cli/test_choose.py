import json

from tests.cli.conftest import refused
from tests.conftest import in_process


def test_json_is_one_object_and_nothing_else(bench, command) -> None:
    bench.search(6)
    result = command("choose", str(bench.folder.path), "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    content = json.loads(result.stdout)
    assert content["study"] == "small"
    assert content["rule"] == "as-good-as-best"
    assert content["ranks"].keys() == {f"layer.{i}.w" for i in range(4)}
    assert "explanation" not in content


def test_json_holds_the_explanation_that_is_asked_for(bench) -> None:
    bench.search(6)
    _, out, _ = in_process("choose", str(bench.folder.path), "--json", "--explain")
    explanation = json.loads(out)["explanation"]
    assert explanation
    _, shown, _ = in_process("choose", str(bench.folder.path), "--explain")
    assert all(sentence in shown for sentence in explanation)
    assert shown.splitlines()[-1].startswith("to export it: python -m rank_search export ")


def test_rule_is_checked_before_the_study_is_looked_for(command) -> None:
    assert refused(command, "choose", "absent", "--rule", "kneee").startswith("--rule: 'kneee' is no rule")


def test_bound_that_nothing_meets_is_a_failure_not_a_traceback(bench, command) -> None:
    bench.search(6)
    result = command("choose", str(bench.folder.path), "--rule", "min-score=9")
    assert result.returncode == 1
    assert result.stderr.startswith("rank_search: no map meets min-score=9")
    assert len(result.stderr.splitlines()) == 1
