"""A browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser import chromium, started
from tests.conftest import missing


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    if chromium() is None:
        missing("Chromium is not here; apt-get install chromium")
    with started() as found:
        yield found
