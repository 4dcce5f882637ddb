"""All families, or those that are named, in a table: ``python -m tests.families [NAME ...]``."""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

from rank_search.models.library_logs import silence_library_logs
from tests.families.journey import travel
from tests.families.models import FAMILIES


def main(names: list[str]) -> int:
    silence_library_logs()
    failures = 0
    for family in FAMILIES:
        if names and family.name not in names:
            continue
        started = time.perf_counter()
        with TemporaryDirectory() as folder:
            try:
                lines = travel(family, Path(folder))
            except Exception:  # the table goes on with the next
                failures += 1
                lines = traceback.format_exc().splitlines()
                verdict = "FAILS"
            else:
                verdict = "pass"
        print(f"{family.name:20} {family.kind:15} {verdict} in {time.perf_counter() - started:.0f} s", flush=True)
        for line in lines:
            print(f"    {line}", flush=True)
    print(f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
