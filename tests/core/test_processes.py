"""Names that tell which process made them."""

import os
import subprocess
import sys

from rank_search.core.processes import host, is_left_over, unique_name


def test_names_differ_and_are_no_left_overs_while_their_process_lives() -> None:
    first, second = unique_name(), unique_name()
    assert first != second
    assert not is_left_over(first)


def test_name_of_a_dead_process_is_a_left_over() -> None:
    script = "from rank_search.core.processes import unique_name; print(unique_name())"
    made = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    assert is_left_over(made)


def test_name_of_another_host_or_of_nobody_is_left_alone() -> None:
    _, _, rest = unique_name().partition("-")
    dead = f"{2**22 + 1}-0"  # above the largest pid
    assert not any(
        map(is_left_over, (f"00000000-{rest}", f"00000000-{dead}", "", "notes", "-", f"{unique_name()[:8]}-"))
    )
    assert is_left_over(f"{unique_name()[:8]}-{dead}")


def test_host_is_the_same_for_every_process_here() -> None:
    script = "from rank_search.core.processes import host; print(host())"
    other = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=os.environ)
    assert other.stdout.strip() == host().strip()
