import rank_search


def test_public_names_are_spelled_out_and_exist() -> None:
    assert rank_search.__all__ == sorted(rank_search.__all__)
    assert all(hasattr(rank_search, name) for name in rank_search.__all__)


def test_public_classes_come_from_here() -> None:
    for name in rank_search.__all__:
        assert getattr(rank_search, name).__module__.startswith("rank_search")
        assert getattr(rank_search, name).__doc__
