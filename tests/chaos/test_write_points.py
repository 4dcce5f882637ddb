"""Every so many of the points at which a study writes; `tests.chaos.write_points` by itself goes through all."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(("fault", "every"), [("killed", 13), ("full", 13)])
def test_resume_is_right_wherever_a_run_broke_off(fault, every, tmp_path) -> None:
    """13 is prime to the number of writes of a trial, so that points of every kind come up."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.chaos.write_points", str(tmp_path), fault, str(every)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["wrong"] == []
    assert found["points"] > 300
