import json
import math

import pytest

from rank_search.cli.output import finite_or_none, format_billions, print_json, print_table, progress_console


def test_table_holds_every_row(capsys) -> None:
    print_table("maps", ("trial", "score"), [("1", "0.5"), ("2", "0.75")])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].strip() == "maps"
    assert any("trial" in line and "score" in line for line in lines)
    assert any("2" in line and "0.75" in line for line in lines)
    assert printed.err == ""


def test_json_is_one_line(capsys) -> None:
    print_json({"a": [1, None], "b": "×"})
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    assert json.loads(out) == {"a": [1, None], "b": "×"}


@pytest.mark.parametrize(("value", "expected"), [(1.5, 1.5), (math.nan, None), (math.inf, None)])
def test_numbers_that_json_does_not_have_are_none(value, expected) -> None:
    assert finite_or_none(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(1.234e9, "1.2 G"), (2.5e8, "0.25 G"), (1.2345e13, "12,345 G")])
def test_billions(value, expected) -> None:
    assert format_billions(value) == expected


def test_progress_goes_to_stderr(capsys) -> None:
    progress_console().print("training")
    assert capsys.readouterr() == ("", "training\n")
