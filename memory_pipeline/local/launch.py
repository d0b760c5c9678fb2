"""Run as a script between us and a server: become the server's account, ask the kernel to end us with our parent, exec.

A script of its own, because the same steps in a forked copy of a process with threads (subprocess' `preexec_fn`) can
deadlock, and because a server account may not be allowed to execute the interpreter: the account is changed only
after the interpreter has started. Standard library only, started with `-I -S`.

Arguments: parent pid, death signal number, uid, gid (-1: keep), then the command.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    parent, death_signal, uid, gid = (int(value) for value in argv[:4])
    command = argv[4:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of account, which clears the setting; exec keeps it.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the process that started this server has ended")
    os.umask(0o077)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
