"""The fixture that the tests of publishing share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    return tmp_path / "exports"
