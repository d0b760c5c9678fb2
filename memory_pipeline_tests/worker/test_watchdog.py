"""A process whose threads can't run is ended, and no other."""

from __future__ import annotations

import subprocess
import sys

# The match keeps the interpreter's lock for years.
HELD = r"re.match(r'(a+)+$', 'a' * 60 + ' I live in Lisbon')"


def run(body: str) -> subprocess.CompletedProcess[str]:
    script = f"import re, time\nfrom memory_pipeline.worker.watchdog import Watchdog\n{body}\nprint('came to its end')"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


def test_code_that_keeps_the_interpreters_lock_ends_the_process_and_its_place_is_told() -> None:
    done = run(f"def poison():\n    {HELD}\nwith Watchdog(0.5):\n    poison()")
    assert (done.returncode, done.stdout) == (1, "")
    assert "in poison" in done.stderr
    assert "Lisbon" not in done.stderr


def test_a_process_that_says_that_it_is_alive_goes_on_and_is_not_watched_afterwards() -> None:
    done = run(
        "with Watchdog(0.8) as watchdog:\n    for _ in range(10):\n        watchdog.alive()\n        time.sleep(0.1)\n"
        "time.sleep(1)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "came to its end\n", "")
