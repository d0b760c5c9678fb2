"""Being another account of this machine for a while: what it may open, and what not."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534


@contextmanager
def as_another_account() -> Iterator[None]:
    """Be neither the owner of the files nor in their groups, but in group NOBODY; only root can become so."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another account")
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Make files and folders under another umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder below none that is closed to other accounts, as pytest's are. They can pass it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
