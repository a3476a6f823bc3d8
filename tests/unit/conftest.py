"""What the unit tests share."""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import missing


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        missing("no promtool found: it comes with Prometheus")
        raise AssertionError("unreachable")
    return found
