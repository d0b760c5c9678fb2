"""Which account the servers run under and which folders that account can reach.

Postgres refuses to run as root. As root we therefore run it as the unprivileged account `nobody`; nothing outside
our own folders is given other permissions for it, so folders it cannot reach are avoided instead.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

from memory_pipeline.local.processes import Account
from memory_pipeline.model.errors import SettingsError, StoreUnavailableError

_UNPRIVILEGED = "nobody"


def server_account() -> Account | None:
    """The account Postgres runs under: None (our own) for a normal user, `nobody` for root."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_UNPRIVILEGED)
    except KeyError:
        raise StoreUnavailableError(
            f"Postgres refuses to run as root, and this machine has no account {_UNPRIVILEGED!r} to run it under: "
            "add one, or run as a normal user."
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def first_closed_folder(path: Path, account: Account | None) -> Path | None:
    """The first existing folder on the way to `path` (itself included) that the account may not pass; None if all
    are open. None as account means ourselves, who are never stopped on the way to our own folders."""
    if account is None:
        return None
    resolved = path.resolve()
    for folder in [*reversed(resolved.parents), resolved]:
        if not folder.exists():
            return None
        status = folder.stat()
        if status.st_uid == account.uid:
            allowed = status.st_mode & stat.S_IXUSR
        elif status.st_gid == account.gid:
            allowed = status.st_mode & stat.S_IXGRP
        else:
            allowed = status.st_mode & stat.S_IXOTH
        if not allowed:
            return folder
    return None


def home_of(wanted: Path) -> Path:
    """The absolute home folder, without making it. Raises StoreUnavailableError for another account's folder there."""
    home, moved = _placed(wanted, say=lambda line: None)
    if moved and os.path.lexists(home):
        own_folder(home, mode=0o711)
    return home


def reachable_home(wanted: Path, say: Callable[[str], None]) -> Path:
    """The absolute home folder, made if missing. As root, a home below a folder that the server account cannot pass
    (such as /root) moves to /var/tmp/memory-pipeline-<hash of the wanted path>, and `say` is told so in one line."""
    home, moved = _placed(wanted, say)
    if moved:
        home.parent.mkdir(parents=True, exist_ok=True)
        own_folder(home, mode=0o711)
    elif not home.exists():
        try:
            home.parent.mkdir(parents=True, exist_ok=True)
            home.mkdir(mode=0o711 if server_account() is not None else 0o700, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"the home {home} can't be made ({error.strerror}); set MEMORY_HOME to a folder you may write to."
            ) from error
    return home


def _placed(wanted: Path, say: Callable[[str], None]) -> tuple[Path, bool]:
    """Where the home is, and whether that is another place than the wanted one."""
    home = Path(os.path.abspath(wanted.expanduser()))
    account = server_account()
    closed = first_closed_folder(home, account)
    if account is None or closed is None:
        return home, False
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    moved = Path("/var/tmp") / f"memory-pipeline-{digest}"
    say(f"Home is {moved}, because Postgres runs as {account.name}, who can't pass {closed} on the way to {home}.")
    return moved, True


def own_folder(path: Path, mode: int, account: Account | None = None) -> None:
    """Make a folder of ours (or the account's) with these permissions, where others might have put something.

    Raises StoreUnavailableError if something is there that belongs to another account: names below /tmp and /var/tmp
    can be taken by anyone.
    """
    owner = account.uid if account is not None else os.geteuid()
    try:
        path.mkdir(mode=mode)
        if account is not None:
            os.chown(path, account.uid, account.gid)
    except FileExistsError:
        pass  # whose it is, is looked at next
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (owner, os.geteuid()):
        raise StoreUnavailableError(
            f"{path} exists and is not a folder of ours: remove it, or set another MEMORY_HOME."
        )
    if account is not None and status.st_uid != account.uid:
        os.chown(path, account.uid, account.gid)
    if stat.S_IMODE(status.st_mode) != mode:
        path.chmod(mode)
