import gzip
import json

import pandas as pd
import pytest

from rank_search.core.errors import InputError
from rank_search.data import limits
from rank_search.data.files import file_format, read_file

ROWS = [{"text": "a, “b”", "label": "x"}, {"text": "c\nd", "label": "y"}]


def test_every_format_gives_the_same_rows(tmp_path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv", index=False)
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.tsv", index=False, sep="\t")
    pd.DataFrame(ROWS).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "rows.csv").read_bytes())
    for name in ("rows.jsonl", "rows.json", "rows.csv", "rows.tsv"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    (tmp_path / "lines.json").write_bytes((tmp_path / "rows.jsonl").read_bytes())
    for path in tmp_path.iterdir():
        assert read_file(path) == ROWS, path.name


def test_squad_format(tmp_path) -> None:
    paragraph = {
        "context": "Denver won.",
        "qas": [
            {"id": "1", "question": "Who won?", "answers": [{"text": "Denver", "answer_start": 0}]},
            {"id": "2", "question": "Who lost?", "answers": [], "is_impossible": True},
        ],
    }
    (tmp_path / "s.json").write_text(json.dumps({"data": [{"title": "Game", "paragraphs": [paragraph]}]}))
    assert read_file(tmp_path / "s.json") == [
        {"title": "Game", "context": "Denver won.", "question": "Who won?", "answers": {"text": ["Denver"]}},
        {"title": "Game", "context": "Denver won.", "question": "Who lost?", "answers": {"text": []}},
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', r"a\.jsonl: line 2 is not JSON \(.*\); fix the line"),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', r"a\.jsonl: line 2 is not a JSON object"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "\xe9"}\n', r"a\.jsonl: line 3 is not UTF-8"),
        ("a.csv", b"text,label\na,b\n\xe9,b\n", r"a\.csv: line 3 is not UTF-8"),
        ("a.csv", b"text,label\n" + 3000 * b"a word or two,b\n" + b"\xe9,b\n", r"a\.csv: line 3002 is not UTF-8"),
        ("a.csv", b"text,label\na,b\nc\n", r"a\.csv: line 3 does not have the 2 columns of the first line"),
        ("a.csv", b"text,label\na,b\nc,d,e\n", r"a\.csv: line 3 does not have the 2 columns"),
        ("a.csv", b'text,label\na,"b"c\n', r"a\.csv: line 2 has a quotation mark out of place"),
        ("a.csv", b"text,label,text\na,b,c\n", r"a\.csv: has two columns named 'text'; rename or remove one"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl: line 1 is not JSON"),
        ("a.json", b"[" * 100_000, r"a\.json: is JSON that can't be read"),
        ("a.json", b'{"data": [\n{]}', r"a\.json: line 2 is not JSON"),
        ("a.json", b'{"rows": []}', r"a\.json: is neither in SQuAD's format .* nor a list of objects"),
        ("a.parquet", b"PAR", r"a\.parquet: is not a Parquet file"),
        ("a.json", b"1" * 5000, r"a\.json: is JSON that can't be read"),
        ("a.json", b'{"text": "a"}\n{"text": \n', r"a\.json: line 2 is not JSON"),
        ("a.jsonl.gz", b"no gzip", r"a\.jsonl\.gz: is not a whole gzip file"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text": "a"}\n' * 99, mtime=0)[:-20],
            r"a\.jsonl\.gz: is not a whole gzip file",
        ),
        ("a.zip", b"PK", r"task\.data: 'a\.zip' has an unknown format; unpack it, and name what is in it"),
        ("a.txt", b"text", r"task\.data: 'a\.txt' has an unknown format; use one of \.jsonl"),
    ],
)
def test_error_about_a_broken_file_names_file_and_line(tmp_path, name, content, expected) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=expected) as raised:
        read_file(tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json", "a.csv.gz"])
def test_file_that_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch, name) -> None:
    """Also one that is small until it is decompressed."""
    content = b" " * 50_000_000
    (tmp_path / name).write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    monkeypatch.setattr(limits, "memory_limit", lambda: 10_000_000)
    with pytest.raises(InputError, match=rf"{name}: holds more than 0\.0 GB, a quarter of this machine's free memory"):
        read_file(tmp_path / name)


def test_format_of_a_name(tmp_path) -> None:
    names = ["a.JSONL", "a.csv.gz", "a.parquet", "a.parquet.gz", "a.gz", "a.csv.zip", "csv"]
    found = [file_format(tmp_path / name) for name in names]
    assert found == [".jsonl", ".csv", ".parquet", None, None, None, None]
