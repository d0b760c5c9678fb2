"""How long a job waits that is held up again and again, by what may last a moment or many minutes."""

from __future__ import annotations

import threading

from memory_pipeline.model.jobs import JobKey

FIRST_SECONDS = 0.2
LONGEST_SECONDS = 5.0
_MOST_JOBS = 20_000
"""Jobs that others end are forgotten when as many more have been held up since."""


class GrowingWaits:
    """A wait that doubles each time a job is held up in a row, as far as this process knows; shared by its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[JobKey, int] = {}

    def next(self, job: JobKey) -> float:
        """Return the seconds that this job should wait now."""
        with self._lock:
            times = self._times.pop(job, 0)
            self._times[job] = times + 1
            if len(self._times) > _MOST_JOBS:
                del self._times[next(iter(self._times))]
        return min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(times, 30))

    def forget(self, job: JobKey) -> None:
        """It is not held up any more."""
        with self._lock:
            self._times.pop(job, None)
