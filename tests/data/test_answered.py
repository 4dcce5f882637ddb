import json

import pytest
from datasets import Dataset

from rank_search.config import GenerationConfig
from rank_search.core.errors import InputError
from rank_search.data.answered import load_answered


def read(path, **settings):
    return load_answered(GenerationConfig(kind="generation", data=str(path), **settings))


def loaded(tmp_path, answers: list, **settings):
    rows = [{"question": f"q {i}", "context": f"c {i}", "answers": given} for i, given in enumerate(answers)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = read(tmp_path / "a.jsonl", **settings)
    return {row.question: row.answers for part in (splits.train, splits.validation, splits.test) for row in part}


def test_answers_in_every_form_they_come_in(tmp_path) -> None:
    forms = ["one", ["one", "two"], {"text": ["one"], "answer_start": [3]}, [{"text": "one"}], 42, 1.5]
    found = loaded(tmp_path, forms * 4)
    assert [found[f"q {i}"] for i in range(6)] == [("one",), ("one", "two"), ("one",), ("one",), ("42",), ("1.5",)]


@pytest.mark.parametrize("wrong", [{"value": "Paris"}, [""], [None], True, [{"value": "x"}], [["a"]], {"text": None}])
def test_answer_without_a_text_is_refused(tmp_path, wrong) -> None:
    with pytest.raises(InputError, match=r"\.jsonl: row 3 has no answer text"):
        loaded(tmp_path, ["fine", "fine", wrong, *["fine"] * 20])


def test_half_a_character_in_an_answer_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"row 2 has half a character .* in column 'answers'"):
        loaded(tmp_path, ["fine", ["cut \ud83d"], *["fine"] * 20])


def squad_files(folder) -> list:
    """SQuAD 2.0 in every shape that it comes in: its JSON, rows as JSONL and rows as Parquet."""
    rows = [
        {
            "title": "T",
            "context": f"c {i}",
            "question": f"q {i}",
            "answers": {"text": [] if i % 3 == 0 else [f"a {i}"], "answer_start": [] if i % 3 == 0 else [0]},
        }
        for i in range(30)
    ]
    paragraphs = [
        {
            "context": row["context"],
            "qas": [
                {
                    "question": row["question"],
                    "answers": [{"text": text, "answer_start": 0} for text in row["answers"]["text"]],
                    "is_impossible": not row["answers"]["text"],
                    "plausible_answers": [{"text": "c", "answer_start": 0}],
                }
            ],
        }
        for row in rows
    ]
    (folder / "a.json").write_text(json.dumps({"data": [{"title": "T", "paragraphs": paragraphs}]}))
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Dataset.from_list(rows).to_parquet(folder / "a.parquet")
    return [folder / name for name in ("a.json", "a.jsonl", "a.parquet")]


def test_questions_without_an_answer_are_left_out_and_counted_in_every_shape(tmp_path) -> None:
    found = [read(path) for path in squad_files(tmp_path)]
    assert found[0] == found[1] == found[2]
    assert found[0].notes == ("train: 10 of 30 questions have no answer in their passage, and are left out",)
    questions = {row.question for part in (found[0].train, found[0].validation, found[0].test) for row in part}
    assert questions == {f"q {i}" for i in range(30) if i % 3}


def test_data_without_any_answer_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"task\.data\.train: .*a\.jsonl has nothing to use: 9 of 9 questions have no"):
        loaded(tmp_path, [[]] * 9)


def test_instruction_data_without_passages_is_refused_with_what_to_do(tmp_path) -> None:
    """Alpaca's ``input`` is empty in most rows."""
    rows = [{"instruction": f"do {i}", "input": "that" if i < 5 else "", "output": "done"} for i in range(20)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = r"a\.jsonl: 15 of 20 rows have no passage in column 'input', .*; remove these rows, or name the column"
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.jsonl", columns={"question": "instruction", "answers": "output", "context": "input"})


def test_wrong_answers_are_not_trained_on(tmp_path) -> None:
    rows = [{"question": f"q {i}", "context": f"c {i}", "answers": "a", "is_correct": i != 7} for i in range(20)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"a\.jsonl: row 8 has False in column 'is_correct', which says that it is no"):
        read(tmp_path / "a.jsonl")
