"""Every so many of the points at which a study writes; `tests.chaos.write_points` by itself goes through all."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["killed", "full"])
@pytest.mark.parametrize("every", [pytest.param(13, marks=pytest.mark.chaos), 97])
def test_resume_is_right_wherever_a_run_broke_off(fault, every, tmp_path) -> None:
    """13 and 97 are prime to the number of writes of a trial, so that points of every kind come up."""
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
