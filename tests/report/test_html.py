"""Pages that are one file."""

import base64
import json
import math
import re

import jinja2
import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rank_search.report import html
from rank_search.report.html import as_json, page

PNG = b"\x89PNG\r\n\x1a\nnot much of a picture"
TEXT = st.text() | st.sampled_from(["</script>", "<!--", "<script", "&lt;"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXT, values, max_size=3),
    max_leaves=8,
)
TEMPLATE = """{% extends "base.html.j2" %}
{% block main %}
<h1>{{ title }}</h1><img src="{{ pictures["front"] }}"><p>{{ note }}</p>
{% endblock %}
"""


@pytest.fixture
def templates(tmp_path, monkeypatch):
    """A folder with the page's parts, and a small template."""
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "base.html.j2").write_bytes((html._TEMPLATES / "base.html.j2").read_bytes())
    (folder / "note.html.j2").write_text(TEMPLATE)
    (folder / "page.css").write_text("h1 > b { color: red }")
    for name in ("first", "second"):
        (folder / f"{name}.js").write_text(f"// {name} && done")
    monkeypatch.setattr(html, "_TEMPLATES", folder)
    monkeypatch.setattr(html, "get_plotlyjs", lambda: "// plotly's own")
    return folder


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "front.png"
    path.write_bytes(PNG)
    return path


def rendered(picture, note: str = "all well", **content) -> str:
    figures = {"front": go.Figure(go.Scatter(x=[1, 2], y=[0.5, math.nan], name="</script>"))}
    return page("note.html.j2", "a <b>title</b>", [picture], figures, ["first.js", "second.js"], note=note, **content)


def test_pictures_lie_within_the_page_under_their_names(templates, picture) -> None:
    (source,) = re.findall('<img src="([^"]+)">', rendered(picture))
    kind, _, data = source.partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == PNG


def test_content_is_escaped_and_assets_are_not(templates, picture) -> None:
    text = rendered(picture, note="<script>alert('&')</script>")
    assert "<p>&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;</p>" in text
    assert text.count("a &lt;b&gt;title&lt;/b&gt;") == 2  # in the head and in the body
    assert "h1 > b { color: red }" in text
    assert "// first && done" in text


def test_scripts_run_after_plotly_in_their_order(templates, picture) -> None:
    text = rendered(picture)
    places = [text.index(script) for script in ("// plotly's own", "// first && done", "// second && done")]
    assert places == sorted(places)


def test_figures_are_data_that_no_text_in_them_can_end(templates, picture) -> None:
    (data,) = re.findall('<script type="application/json" id="figures">(.*?)</script>', rendered(picture))
    (trace,) = json.loads(data)["front"]["data"]
    assert (trace["name"], trace["x"], trace["y"]) == ("</script>", [1, 2], [0.5, None])


def test_what_a_template_asks_for_and_is_not_given_is_an_error(templates, picture) -> None:
    (templates / "note.html.j2").write_text(TEMPLATE.replace("note", "forgotten"))
    with pytest.raises(jinja2.UndefinedError, match="'forgotten' is undefined"):
        rendered(picture)


def test_page_refuses_every_request_to_elsewhere(templates, picture) -> None:
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]+)"', rendered(picture))
    allowed = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert allowed == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "script-src": "'unsafe-inline'",
        "img-src": "data:",
    }


@settings(max_examples=30)
@given(st.dictionaries(TEXT, VALUES, max_size=3))
def test_json_comes_back_and_never_opens_an_element(data) -> None:
    text = as_json(data)
    assert "<" not in text
    assert json.loads(text) == data


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_what_is_no_number_is_null(value) -> None:
    assert as_json({"values": [value, 1.5]}) == '{"values":[null,1.5]}'
