import csv
import io

import pandas as pd
import pytest

from rank_search.core.errors import InputError
from rank_search.data.delimited import read_csv, read_tsv


def table(count: int, first: str, last: str) -> str:
    """Rows of which one text begins and a later one ends with a quotation mark."""
    texts = [f"text {i}" for i in range(count)]
    texts[10], texts[30] = first, last
    return "text\tlabel\n" + "".join(f"{text}\ta\n" for text in texts)


def test_quotation_marks_that_stand_in_a_tsv_join_no_rows() -> None:
    rows = read_tsv(table(60, '"open', 'shut"'), "a.tsv")
    assert len(rows) == 60
    assert rows[10] == {"text": '"open', "label": "a"}
    assert rows[30] == {"text": 'shut"', "label": "a"}


def test_tsv_that_is_quoted_as_csv_is_reads_like_it() -> None:
    texts = ['say "hi"', "tab\there", "two\nlines", "plain", '"all of it"']
    written = io.StringIO()
    pd.DataFrame({"text": texts, "label": list("abcde")}).to_csv(written, sep="\t", index=False)
    assert [row["text"] for row in read_tsv(written.getvalue(), "a.tsv")] == texts
    one_line = io.StringIO()
    writer = csv.writer(one_line, delimiter="\t", quoting=csv.QUOTE_ALL)
    writer.writerows([["text", "label"], ["a", "b"], ['c "d"', "e"]])
    assert read_tsv(one_line.getvalue(), "a.tsv") == [{"text": "a", "label": "b"}, {"text": 'c "d"', "label": "e"}]


def test_tsv_whose_rows_a_quotation_mark_would_join_is_refused() -> None:
    broken = table(60, '"open', 'shut"') + "a text alone\n"
    message = (
        r"a\.tsv: a quotation mark in line 12 joins it to the next 20 lines, which look like rows; remove the mark"
    )
    with pytest.raises(InputError, match=message):
        read_tsv(broken, "a.tsv")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_of_a_csv_are_separated_as_its_first_line_says(delimiter) -> None:
    lines = [["text", "label, or class"], ["a; b\tc, d", "x"], ["e", "y"]]
    if delimiter != ",":
        lines[0][1] = "label"
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter).writerows(lines)
    assert [list(row.values()) for row in read_csv(written.getvalue(), "a.csv")] == lines[1:]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            'text,label\na,b\na,"b"c\n',
            r"line 3 has a quotation mark out of place .*; double the quotation marks inside",
        ),
        ('text,label\na,b\n"c,d\ne,f\n', r"the row of lines 3 to 4 has a quotation mark out of place"),
        ('text,label\n"a\nb",c\nd\n', r"line 4 does not have the 2 columns of the first line; fix the line"),
        ("text,label,text\na,b,c\n", r"has two columns named 'text'; rename or remove one"),
    ],
)
def test_broken_csv_names_its_line(content, expected) -> None:
    with pytest.raises(InputError, match=rf"a\.csv: {expected}"):
        read_csv(content, "a.csv")


def test_empty_files_have_no_rows() -> None:
    assert [read_csv("", "a.csv"), read_tsv("", "a.tsv"), read_tsv("a\tb\n", "a.tsv")] == [[], [], []]


def test_long_fields_are_read() -> None:
    limit = csv.field_size_limit()
    assert len(read_csv(f"text\n{'a' * 500_000}\n", "a.csv")[0]["text"]) == 500_000
    assert csv.field_size_limit() == limit
