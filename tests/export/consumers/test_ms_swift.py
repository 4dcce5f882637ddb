import re

from hypothesis import given
from hypothesis import strategies as st

from rank_search.core.errors import RankSearchError
from rank_search.export.consumers.ms_swift import with_suffix_keys
from rank_search.export.formats import write_export
from tests.export.helpers import NAMES, arguments


def test_ms_swifts_keys_match_in_its_own_way(bases, exported_trial, tmp_path) -> None:
    """Its LoRA takes rank and α by the first key with ``re.match(rf'.*\\.{key}$', name)``."""
    exported = exported_trial("generation", scale="constant", alpha=2.0)
    write_export(exported, "ms-swift", tmp_path / "out")
    given_ = arguments((tmp_path / "out" / "train.py").read_text(), "LoRAConfig")
    for name, rank in exported.rank_map.adapted.items():
        keys = [key for key in [*given_["rank_pattern"], *given_["alpha_pattern"]] if re.match(rf".*\.{key}$", name)]
        assert given_["rank_pattern"][keys[0]] == rank
        assert given_["alpha_pattern"][keys[0]] == 2 * rank
    others = [name for name, rank in exported.rank_map.ranks.items() if not rank]
    assert not any(re.match(rf".*\.{key}$", name) for name in others for key in given_["rank_pattern"])


@given(st.dictionaries(NAMES, st.integers(1, 3), min_size=1, max_size=6), st.sets(NAMES, max_size=4))
def test_a_key_for_ms_swift_matches_one_module_or_is_refused(ranks, others) -> None:
    names = (*ranks, *(others - ranks.keys()))
    settings = {"rank_pattern": {f"^{re.escape(name)}": rank for name, rank in ranks.items()}}
    try:
        keys = with_suffix_keys(settings, names)["rank_pattern"]
    except RankSearchError:
        return
    for name in names:
        assert [keys[key] for key in keys if re.match(rf".*\.{key}$", name)] == ([ranks[name]] if name in ranks else [])
