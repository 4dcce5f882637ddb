import json

import pytest

from rank_search.config import GenerationConfig
from rank_search.core.errors import InputError
from rank_search.data.answered import load_answered


def loaded(tmp_path, answers: list, **settings):
    rows = [{"question": f"q {i}", "context": f"c {i}", "answers": given} for i, given in enumerate(answers)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = GenerationConfig(kind="generation", data=str(tmp_path / "a.jsonl"), **settings)
    splits = load_answered(config)
    return {row.question: row.answers for part in (splits.train, splits.validation, splits.test) for row in part}


def test_answers_in_every_form_they_come_in(tmp_path) -> None:
    forms = ["one", ["one", "two"], {"text": ["one"], "answer_start": [3]}, [{"text": "one"}], 42, 1.5]
    found = loaded(tmp_path, forms * 4)
    assert [found[f"q {i}"] for i in range(6)] == [("one",), ("one", "two"), ("one",), ("one",), ("42",), ("1.5",)]


@pytest.mark.parametrize("wrong", [[], {"value": "Paris"}, {"text": []}, [""], [None], True, [{"value": "x"}]])
def test_answer_without_a_text_is_refused(tmp_path, wrong) -> None:
    with pytest.raises(InputError, match=r"\.jsonl: row 3 has no answer text"):
        loaded(tmp_path, ["fine", "fine", wrong, *["fine"] * 20])
