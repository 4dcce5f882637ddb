import textwrap

import pytest

from rank_search.config import RetrievalConfig
from rank_search.core.errors import InputError
from rank_search.data.splits import Splits
from rank_search.data.stdlib import Pair, first_sentence, load_stdlib_pairs

SOURCE = '''
class Shelf:
    def put(self, book):
        """Put a book on the shelf.  The shelf grows.

        More words.
        """
        self.books.append(book)
        return self

    async def take(self):
        "Take the first book away"
        return self.books.pop(0)

    def bare(self):
        """Has nothing but these words."""

    def terse(self):
        """Too short."""
        return 1

    def silent(self):
        return 2

if True:
    def nested():
        """Put a book on the shelf."""
        return "the query stands already above"
'''


@pytest.fixture
def library(tmp_path):
    (tmp_path / "shelf.py").write_text(SOURCE)
    for folder in ("test", "idlelib", "config-3.11"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "left_out.py").write_text(SOURCE.replace("book", "page"))
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "latin.py").write_bytes(b'# \xe9\ndef f():\n    """Words in a wrong encoding."""\n    return 1\n')
    return tmp_path


def settings(**sizes) -> RetrievalConfig:
    return RetrievalConfig(kind="retrieval", **sizes)


def everything(data: Splits[Pair]) -> dict[str, str]:
    return {pair.query: pair.document for pair in (*data.train, *data.validation, *data.test)}


def test_functions_with_a_docstring_become_pairs(library) -> None:
    pairs = everything(load_stdlib_pairs(settings(), library))
    assert pairs == {
        "Put a book on the shelf.": textwrap.dedent("""\
            def put(self, book):
                self.books.append(book)
                return self"""),
        "Take the first book away": "async def take(self):\n    return self.books.pop(0)",
    }


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("One. Two.", "One."),
        ("Spread over\n    two lines\n\n    and more", "Spread over two lines"),
        ("Needs e.g. no capital. After it", "Needs e.g. no capital."),
        ("What? Yes", "What?"),
    ],
)
def test_first_sentence(docstring, sentence) -> None:
    assert first_sentence(docstring) == sentence


@pytest.fixture(scope="module")
def stdlib() -> Splits[Pair]:
    return load_stdlib_pairs(settings(selection_size=0))


@pytest.mark.slow
def test_real_library_is_large_and_split_without_overlap(stdlib) -> None:
    assert len(stdlib.train) > 2_500
    assert len(stdlib.validation) == len(stdlib.test) == 500
    total = len(stdlib.train) + 1_000
    assert len(everything(stdlib)) == total
    assert len({pair.document for pair in (*stdlib.train, *stdlib.validation, *stdlib.test)}) == total


@pytest.mark.slow
def test_documents_do_not_hold_their_query(stdlib) -> None:
    assert not any(pair.query in pair.document for pair in stdlib.validation)


def test_fingerprint_distinguishes_data(stdlib, library) -> None:
    assert load_stdlib_pairs(settings(selection_size=0)).fingerprint == stdlib.fingerprint
    assert load_stdlib_pairs(settings(selection_size=0, validation_size=499)).fingerprint != stdlib.fingerprint
    before = load_stdlib_pairs(settings(), library).fingerprint
    (library / "shelf.py").write_text(SOURCE.replace("pop(0)", "pop(1)"))
    assert load_stdlib_pairs(settings(), library).fingerprint != before


@pytest.mark.slow
def test_smaller_validation_is_part_of_the_larger(stdlib) -> None:
    assert load_stdlib_pairs(settings(validation_size=50, selection_size=0)).validation == stdlib.validation[:50]


@pytest.mark.slow
def test_pairs_for_the_choice_are_taken_from_training_alone(stdlib) -> None:
    found = load_stdlib_pairs(settings())
    assert found.selection == 500
    assert found.validation[:500] == stdlib.validation
    assert found.test == stdlib.test
    assert {*found.validation[500:]} < {*stdlib.train}
    assert not {*found.validation[500:]} & {*found.train}


@pytest.mark.slow
def test_a_larger_share_is_held_out_where_the_study_file_asks_for_it(stdlib) -> None:
    sizes = {"validation_size": 5000, "selection_size": 5000, "test_size": 5000}
    found = load_stdlib_pairs(settings(data={"source": "builtin:python-stdlib", "held_out": 0.25}, **sizes))
    total = len(found.train) + len(found.validation) + len(found.test)
    assert len(found.test) == pytest.approx(total / 4, rel=0.1)
    assert {*stdlib.validation} < {*found.validation}
    with pytest.raises(InputError, match="leaves nothing to train on"):
        load_stdlib_pairs(settings(data={"source": "builtin:python-stdlib", "held_out": 0.4}, **sizes))
