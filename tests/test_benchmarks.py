"""The benchmarks run; what they measure is not asserted here."""

import json
import subprocess
import sys

from tests.conftest import ROOT, SMALL


def test_seed_noise(tmp_path) -> None:
    script = str(ROOT / "benchmarks" / "seed_noise.py")
    result = subprocess.run(
        [sys.executable, script, "--seeds", "2", *SMALL], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    printed = json.loads(result.stdout)
    assert printed.keys() == json.loads((ROOT / "benchmarks" / "seed_noise.json").read_text()).keys()
    assert len(printed["common_batches"]["scores"]) == len(printed["own_batches"]["scores"]) == 2
