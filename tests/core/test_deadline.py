"""Templates that never end."""

import sys
import time

import pytest
from jinja2.sandbox import SandboxedEnvironment

from rank_search.core.deadline import TemplateTimeout, template_deadline

LOOPS = "{% for i in range(99999) %}" * 5 + "x" + "{% endfor %}" * 5


def test_endless_loops_are_stopped() -> None:
    template = SandboxedEnvironment().from_string(LOOPS)
    started = time.monotonic()
    with pytest.raises(TemplateTimeout), template_deadline(0.2):
        template.render()
    assert time.monotonic() - started < 30
    assert sys.gettrace() is None


def test_other_code_and_quick_templates_are_left_alone() -> None:
    with template_deadline(0.0):
        assert sum(range(10)) == 45
    template = SandboxedEnvironment().from_string("{% for i in range(3) %}{{ i }}{% endfor %}")
    with template_deadline(60):
        assert template.render() == "012"


def test_a_debugger_is_put_back() -> None:
    def trace(_frame, _event, _value) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with template_deadline(60):
            assert sys.gettrace() is not trace
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
