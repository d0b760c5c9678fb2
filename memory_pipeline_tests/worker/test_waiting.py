"""How long a job waits that is held up: twice as long each time, until it is not any more."""

from __future__ import annotations

from uuid import uuid4

import pytest

from memory_pipeline.model.jobs import JobKey
from memory_pipeline.worker import waiting
from memory_pipeline.worker.waiting import GrowingWaits


def job() -> JobKey:
    return JobKey(uuid4(), uuid4())


def test_a_wait_doubles_up_to_five_seconds_for_each_job_by_itself() -> None:
    waits, held, other = GrowingWaits(), job(), job()
    assert [waits.next(held) for _ in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert waits.next(other) == 0.2


def test_a_job_that_went_on_begins_anew() -> None:
    waits, held = GrowingWaits(), job()
    waits.forget(held)
    assert [waits.next(held), waits.next(held)] == [0.2, 0.4]
    waits.forget(held)
    assert waits.next(held) == 0.2


def test_jobs_that_are_held_up_for_long_are_remembered_and_the_oldest_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "_MOST_JOBS", 3)
    waits, gone, held = GrowingWaits(), job(), job()
    waits.next(gone)
    assert [(waits.next(held), waits.next(job()))[0] for _ in range(4)] == [0.2, 0.4, 0.8, 1.6]
    assert waits.next(gone) == 0.2
