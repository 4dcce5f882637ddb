import dataclasses
import json
import shutil

import pytest
import torch
from optuna.trial import TrialState
from safetensors.torch import save_file

from rank_search.app.doctor import examine
from rank_search.core.errors import InputError, RankSearchError
from rank_search.core.files import atomic_file
from rank_search.study.folder import CONFIRMATIONS
from rank_search.study.handle import Study
from rank_search.study.storage import create_study
from tests.bench import SPACE, Landscape, Saving, metadata
from tests.search.test_loop import Killed, forget_lease

pytestmark = pytest.mark.slow

AS_BEGUN = ("data", "model")


@pytest.fixture
def study(bench):
    found = bench.search(8, Saving())
    bench.folder.claim(metadata().identity)
    return found


def examined(bench, *, fix=False, facts=AS_BEGUN):
    return examine(str(bench.folder.path), None, lambda _: facts, fix=fix)


def test_sound_study_has_no_findings(bench, study) -> None:
    assert examined(bench) == []


def test_orphans_and_left_overs_are_found_and_put_in_quarantine(bench, study) -> None:
    shutil.copytree(bench.folder.adapter(1), bench.folder.adapter(99))
    bench.folder.write_result(98, {"losses": []})
    left = bench.folder.path / "results" / ".0003.json.partial"
    left.write_text("{")
    orphans = {str(bench.folder.adapter(99)), str(bench.folder.result(98)), str(left)}
    assert {finding.where for finding in examined(bench)} == orphans
    assert left.exists()
    assert all(finding.fixed for finding in examined(bench, fix=True))
    assert examined(bench) == []
    assert bench.folder.adapter(1).is_dir()
    quarantined = bench.folder.path / "quarantine"
    assert (quarantined / "adapters" / "0099" / "adapter_model.safetensors").read_bytes() == b"adapter"
    assert {path.name for path in (quarantined / "results").iterdir()} == {"0098.json", left.name}
    bench.folder.write_result(98, {"losses": [1.0]})
    examined(bench, fix=True)
    assert (quarantined / "results" / "0098.json.1").is_file(), "the one that is there stays"


def test_files_of_many_trials_without_a_record_stay_where_they_are(bench, study) -> None:
    """A database that was restored from an old copy: the files may be all that is left of its trials."""
    for number in range(20, 24):
        shutil.copytree(bench.folder.adapter(1), bench.folder.adapter(number))
    left = bench.folder.path / "results" / ".0003.json.partial"
    left.write_text("{")
    found = examined(bench, fix=True)
    assert [finding.fixed for finding in found] == [False, True]
    assert found[0].where == str(bench.folder.database)
    assert "no finished trial of 4 whose files are here (20 to 23), so it may have lost them" in found[0].problem
    assert all(bench.folder.adapter(number).is_dir() for number in range(20, 24))
    assert not left.exists()


def test_link_is_moved_and_not_what_it_leads_to(bench, study, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    bench.folder.adapter(99).symlink_to(tmp_path / "mine")
    (found,) = examined(bench, fix=True)
    assert found.fixed
    assert (bench.folder.path / "quarantine" / "adapters" / "0099").is_symlink()
    assert (tmp_path / "mine" / "notes").exists()


def test_each_act_is_said_before_it_is_done_and_what_came_meanwhile_is_seen(bench, study, monkeypatch) -> None:
    """It looks when no other process can write, so it does not act on what it saw before."""
    shutil.copytree(bench.folder.adapter(1), bench.folder.adapter(99))
    acts = []

    def act(finding) -> None:
        acts.append((finding.where, bench.folder.adapter(99).exists()))
        with pytest.raises(RankSearchError, match="another run"), bench.folder.locked():
            pass

    examine(str(bench.folder.path), None, lambda _: AS_BEGUN, fix=True, on_fix=act)
    assert acts == [(str(bench.folder.adapter(99)), True)]


def test_what_a_living_process_writes_is_no_left_over(bench, study) -> None:
    with atomic_file(bench.folder.result(3)) as partial:
        partial.write_text("{}")
        assert examined(bench) == []


def test_adapter_whose_ranks_are_not_those_of_the_record_is_found(bench, study) -> None:
    """As one that was trained again after its recipe had set its ranks."""
    weights = {f"base_model.model.{name}.lora_A.weight": torch.zeros(8, 10) for name in SPACE.shapes}
    save_file(weights, bench.folder.adapter(2) / "adapter_model.safetensors")
    kept = bench.folder.read_result(2)
    bench.folder.write_result(2, {**kept, "adapter": bench.folder.adapter_digests(2)})
    (found,) = examined(bench)
    assert found.where == str(bench.folder.adapter(2))
    assert found.problem.startswith(
        "its ranks are not those of the trial's record; export --trial 2 --to peft --retrain"
    )
    ranks = Study.open(str(bench.folder.path)).trial(2).rank_map.adapted
    weights = {f"base_model.model.{name}.lora_A.weight": torch.zeros(rank, 10) for name, rank in ranks.items()}
    save_file(weights, bench.folder.adapter(2) / "adapter_model.safetensors")
    bench.folder.write_result(2, {**kept, "adapter": bench.folder.adapter_digests(2)})
    assert examined(bench) == []


def test_edited_adapter_is_put_in_quarantine_and_its_trial_named(bench, study) -> None:
    (bench.folder.adapter(2) / "adapter_model.safetensors").write_bytes(b"edited")
    (found,) = examined(bench)
    assert found.where == str(bench.folder.adapter(2))
    assert "export --trial 2 --to peft --retrain" in found.problem
    examined(bench, fix=True)
    assert not bench.folder.adapter(2).exists()
    assert examined(bench) == []


def test_truncated_files_are_found(bench, study) -> None:
    results, test = bench.folder.result(3), bench.folder.path / "test.json"
    results.write_text(results.read_text()[:20])
    test.write_text('{"contest": {')
    bench.folder.write_training(CONFIRMATIONS, "a", 0, {"seed": 1})
    confirmation = next((bench.folder.path / "confirmations").iterdir())
    confirmation.write_text("")
    damaged = {str(path) for path in (results, test, confirmation)}
    assert {finding.where for finding in examined(bench)} == damaged
    examined(bench, fix=True)
    (left,) = examined(bench)
    assert (left.where, left.fix) == ("trial 3", "")
    assert "per-example scores are gone" in left.problem
    assert len(bench.search(8, Saving()).trials) == 8  # and the study goes on


def test_trials_of_a_dead_driver_are_harmless(bench) -> None:
    with pytest.raises(Killed):
        bench.search(8, Landscape({5: Killed()}))
    assert [finding.where for finding in examined(bench)] == []  # this process holds the lease, and lives
    forget_lease(bench.study())
    (found,) = examined(bench)
    assert (found.where, found.harmless) == ("trial 5", True)


def test_other_data_and_a_lost_base_model_are_told(bench, study) -> None:
    assert [finding.where for finding in examined(bench, facts=("other", "model"))] == ["task.data"]
    assert [finding.where for finding in examined(bench, facts=("data", "other"))] == ["model.source"]

    def gone(_record):
        raise InputError("'/gone' is no folder", field="model.source")

    (found,) = examine(str(bench.folder.path), None, gone, fix=True)
    assert found.problem == "can't be loaded: model.source: '/gone' is no folder"


def test_damaged_database_is_told_and_left_alone(bench, study) -> None:
    file = bench.folder.path / "study.db"
    content = file.read_bytes()
    for damaged in (b"no database at all" * 100, content[: len(content) // 2]):
        file.write_bytes(damaged)
        (found,) = examined(bench, fix=True)
        assert found.where == str(file)
        assert found.fix == ""
        assert file.read_bytes() == damaged


def test_nothing_is_fixed_while_a_run_is_at_work(bench, study) -> None:
    with bench.folder.locked(), pytest.raises(RankSearchError, match="another run"):
        examined(bench, fix=True)
    trial = create_study(bench.folder, None).ask()
    assert trial.study.trials[-1].state == TrialState.RUNNING
    from contextlib import nullcontext
    from types import SimpleNamespace

    from rank_search.study.leases import Leases

    Leases(SimpleNamespace(acquired=nullcontext)).acquire(trial)
    with pytest.raises(RankSearchError, match="is at work; stop it"):
        examined(bench, fix=True)


def test_command(command, bench, study) -> None:
    """On a study whose model can't be loaded: it says so, and fixes the rest."""
    file = bench.folder.path / "results" / ".0001.json.partial"
    file.write_text("{")
    record_ = dataclasses.replace(metadata(), config={**metadata().config, "model": {"source": "./gone"}})
    record_.write(study)
    result = command("doctor", str(bench.folder.path), "--fix", "--json")
    assert result.returncode == 1, result.stderr
    found = {finding["where"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert found[str(file)]["fixed"]
    assert "'./gone'" in found["data and base model"]["problem"]
    result = command("doctor", str(bench.folder.path))
    assert result.returncode == 1
    assert result.stdout.startswith("data and base model: can't be loaded: model.source: './gone'")
