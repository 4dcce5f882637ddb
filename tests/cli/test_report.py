"""``report``: its options; pages and comparisons are tested in tests/report/."""

import pytest

from tests.bench import REPORT
from tests.conftest import in_process


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("a", "b", "--watch"), "--watch: is for one study"),
        (("a", "b", "--paper"), "--paper: is for one study"),
        (("a", "--watch", "--paper"), "--paper: can't be used together with --watch; leave one of them out"),
    ],
)
def test_options_that_exclude_each_other(arguments, line) -> None:
    assert in_process("report", *arguments) == (2, "", f"rank_search: {line}\n")


@pytest.mark.slow
def test_report_is_written_below_the_current_folder(bench, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    bench.search(6)
    status, out, said = in_process("report", str(bench.folder.path))
    assert (status, said) == (0, "")
    assert out.splitlines()[-1] == "report: reports/small/index.html"
    assert len(out.splitlines()) == 2  # the verdict comes first
    assert REPORT - {path.name for path in (tmp_path / "reports" / "small").iterdir()} == set()
