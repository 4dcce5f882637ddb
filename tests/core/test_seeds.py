"""Seeds must never change: a study goes on with those it was started with."""

from hypothesis import given
from hypothesis import strategies as st

from rank_search.core.seeds import Stream, adapter_seed, batch_seed, derive_seed, rate_seeds, verdict_seeds


def test_seeds_are_those_of_earlier_versions() -> None:
    assert [stream.value for stream in Stream] == [0, 1, 2, 3, 4, 5]
    # Of a study that the code before this module trained (tests/study/schema_1.tar.gz).
    assert [adapter_seed(0, number) for number in (0, 3, 14, 26)] == [3964924996, 1680122868, 3019817973, 3325602063]


@given(st.integers(0, 2**31), st.integers(1, 50))
def test_streams_are_apart(study_seed, number) -> None:
    seeds = [adapter_seed(study_seed, number), batch_seed(study_seed, number), *verdict_seeds(study_seed, number)]
    seeds += rate_seeds(study_seed, number)
    assert len(set(seeds)) == 6
    assert batch_seed(study_seed) == derive_seed(study_seed, Stream.BATCHES)
