"""Who else on the machine may open what is exported: modes and groups of folders and files."""

from __future__ import annotations

import grp
import os
import stat
from contextlib import suppress
from pathlib import Path

from memory_pipeline.model.errors import ExportError


def group_id(name: str | None) -> int | None:
    """Return the number of a group, None for none. Raises ExportError for a group that this machine does not have."""
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise ExportError(
            f"there is no group {name!r} on this machine: make it, or mend MEMORY_EXPORT_GROUP or "
            "MEMORY_EXPORT_CONSUMERS."
        ) from error


def allow_below(root: Path) -> None:
    """Let whoever may pass `root` read everything below, whatever the umask was; not what begins with a dot."""
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        if here == root:
            folders[:] = [name for name in folders if not name.startswith(".")]
            names = [name for name in names if not name.startswith(".")]
        for path, mode in (*((here / name, 0o755) for name in folders), *((here / name, 0o644) for name in names)):
            with suppress(FileNotFoundError):  # an export replaces it by one that has the right mode
                allow(path, mode, None)


def allow(path: Path, mode: int, group: int | None) -> None:
    """Give a file or folder its mode, and to a group where one is named. Raises ExportError where the latter fails."""
    if group is not None and path.stat().st_gid != group:
        try:
            os.chown(path, -1, group)
        except PermissionError as error:
            raise ExportError(
                f"{path} can't be given to group {grp.getgrgid(group).gr_name!r}: whoever publishes has to own it and "
                "be a member of that group."
            ) from error
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)
