"""``init``: its options and what it writes; what it makes of models and data is in tests/app/test_init.py."""

import pytest
import yaml

from rank_search.app.init import Draft
from tests.bench import EMBEDDED
from tests.cli.conftest import SETTINGS, refused
from tests.conftest import in_process


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--kind", "clasification"), "--kind: 'clasification' is no task; did you mean 'classification'?"),
        (("--kind", "rag"), "--retriever: is missing: rag needs a sentence embedder beside --model"),
        (("--kind", "retrieval", "--retriever", "x"), "--retriever: is of no use to retrieval; leave it out"),
        ((), "--data: './absent.jsonl' is neither a file nor a folder here; check the path"),
    ],
)
def test_init_refuses(command, arguments, expected) -> None:
    assert refused(command, "init", "--model", EMBEDDED, "--data", "./absent.jsonl", *arguments) == expected


@pytest.mark.parametrize(("options", "name"), [((), "mine.yaml"), (("--out", "other.yaml"), "other.yaml")])
def test_draft_is_written_once(tmp_path, monkeypatch, options, name) -> None:
    monkeypatch.chdir(tmp_path)
    text = yaml.safe_dump(SETTINGS)
    monkeypatch.setattr("rank_search.app.init.draft", lambda *_: Draft("mine", text))
    line = ("init", "--model", EMBEDDED, "--data", "d.jsonl", *options)
    said = f"{name}: look it over, then run: python -m rank_search plan {name}\n"
    assert in_process(*line) == (0, said, "")
    assert (tmp_path / name).read_text() == text
    assert in_process(*line) == (2, "", f"rank_search: --out: '{name}' exists; name another\n")
