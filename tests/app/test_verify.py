from pathlib import Path

import pytest

from rank_search.app.verify import verify_bundles
from rank_search.export.manifest import Finding


def finding(passed: bool | None) -> Finding:
    return Finding(label="x", consumer="X", version="1", real=True, passed=passed)


@pytest.mark.parametrize(
    ("results", "consumers", "passed"),
    [
        ([[True, True]], None, True),
        ([[True, None]], None, True),  # a consumer that does not support the model proves nothing, and spoils nothing
        ([[True, None]], ["x"], False),  # unless it was named
        ([[True, False]], None, False),
        ([[None, None]], None, False),  # no consumer could read it
        ([[True], [None]], None, False),
        ([[True], [True]], ["x"], True),
    ],
)
def test_when_a_verification_passes(monkeypatch, results, consumers, passed) -> None:
    found = {Path(str(i)): [finding(result) for result in bundle] for i, bundle in enumerate(results)}
    monkeypatch.setattr("rank_search.app.verify.bundles", lambda _folder: list(found))
    monkeypatch.setattr("rank_search.app.verify.verify", lambda path, _names, **_: found[path])
    verification = verify_bundles(Path(), consumers)
    assert (verification.passed, verification.findings) == (passed, found)


@pytest.mark.parametrize(("everyone", "names"), [(False, ["peft"]), (True, [])])
def test_everyone_goes_before_names(monkeypatch, everyone, names) -> None:
    tried = []
    monkeypatch.setattr("rank_search.app.verify.bundles", lambda _folder: [Path("a")])
    monkeypatch.setattr(
        "rank_search.app.verify.verify", lambda _path, labels, **_: tried.append(labels) or [finding(True)]
    )
    verify_bundles(Path(), ["peft"], everyone=everyone)
    assert tried == [names]
