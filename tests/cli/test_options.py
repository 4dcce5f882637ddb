"""The help names rules, formats and tasks without importing them; here it is compared with them."""

import re

import pytest

from rank_search.cli import options
from rank_search.config import StudyConfig
from rank_search.core.choice import Rule
from rank_search.core.errors import InputError
from rank_search.export.formats import formats
from tests.conftest import in_process


def test_rules_are_those_of_the_analysis() -> None:
    with pytest.raises(InputError) as refusal:
        Rule.parse("xyz")
    known = refusal.value.problem.partition("known: ")[2].split(", ")
    assert sorted(options.RULES) == sorted(known)
    for rule in options.RULES:
        assert str(Rule.parse(re.sub("=[NX]$", "=1", rule))) == re.sub("=[NX]$", "=1", rule)


@pytest.mark.parametrize("verb", ["choose", "export"])
def test_help_names_every_rule(verb) -> None:
    _, out, _ = in_process(verb, "--help")
    assert all(rule in "".join(out.split()) for rule in options.RULES)  # a line may break at a hyphen
    assert "[default: (choice.rule of the study file)]" in " ".join(out.replace("│", " ").split())


def test_help_names_formats_that_exist() -> None:
    _, out, _ = in_process("export", "--help")
    named = re.search(r"see README: (.*?) …", " ".join(out.split()))
    assert named
    assert set(named[1].split(", ")) <= formats().keys()


def test_help_names_every_task() -> None:
    schema = StudyConfig.model_json_schema()
    _, out, _ = in_process("init", "--help")
    for kind in schema["properties"]["task"]["discriminator"]["mapping"]:
        assert kind in out


def test_demo_is_a_shipped_study_file() -> None:
    from rank_search.app.configs import find_study_file

    assert find_study_file(options.DEMO).is_file()
