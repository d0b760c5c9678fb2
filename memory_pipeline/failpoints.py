"""Named places where a test may end, suspend or delay this process, to see what it leaves behind.

MEMORY_FAILPOINTS holds them for one process, separated by commas: `place:kill` (SIGKILL), `place:stop` (SIGSTOP, until
somebody continues it) or `place:sleep=SECONDS`, each with `@N` behind it for the N-th passing alone:

    MEMORY_FAILPOINTS="after_claim:kill@3,before_mark:sleep=0.5"

It is no setting: nothing but a test sets it, and without it a place costs one look at the environment. Places, in the
order of a job's way: after_xadd (in the stream, not yet marked published), before_claim_commit, after_claim,
before_mark (in Chroma, not yet marked as indexed), after_work (everything is written, the ledger does not know),
after_settle (the ledger knows, the stream does not). When the lake is published: after_lake_copies,
before_lake_manifest (its generation is kept, the one before is served), after_lake_manifest, before_lake_removals.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter

VARIABLE = "MEMORY_FAILPOINTS"
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

_passed: Counter[str] = Counter()
_counting = threading.Lock()


def reached(place: str) -> None:
    """Do what a test wants to happen here; nothing where no test has set MEMORY_FAILPOINTS."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    with _counting:
        _passed[place] += 1
        passed = _passed[place]
    for entry in wanted.split(","):
        name, _, rest = entry.partition(":")
        action, _, turn = rest.partition("@")
        if name == place and turn in ("", str(passed)):
            _act(action)


def _act(action: str) -> None:
    if action in _SIGNALS:
        os.kill(os.getpid(), _SIGNALS[action])
    elif action.startswith("sleep="):
        time.sleep(float(action.removeprefix("sleep=")))
    else:
        raise ValueError(f"{VARIABLE} names an action that there is not: {action!r}")
