"""Batches that raise are halved until the job that does it stands alone; what follows depends on whose fault it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs

from memory_pipeline.model.errors import (
    BusyError,
    ProviderError,
    ProviderUnavailableError,
    SettingsError,
    StoreUnavailableError,
)
from memory_pipeline.stores.postgres.jobs import ClaimedJob
from memory_pipeline.worker.outcomes import (
    AWAY_SECONDS,
    BUSY_SECONDS,
    Done,
    Failed,
    Outcome,
    Waits,
    work_through,
)


def job(number: int) -> ClaimedJob:
    return ClaimedJob(
        tenant_id=uuid4(),
        job_id=uuid4(),
        claim_token=uuid4(),
        job_type="index",
        subject_id=uuid4(),
        user_id=None,
        day=date(2026, 3, 1),
        payload={"number": number},
        attempts=1,
        claimed_alone=False,
        correlation_id=uuid4(),
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
    )


def numbers(jobs: Sequence[ClaimedJob]) -> list[int]:
    return [int(each.payload["number"]) for each in jobs]


def raising(bad: set[int], error: Callable[[], BaseException], calls: list[list[int]]) -> Callable[..., list[Outcome]]:
    def handle(jobs: Sequence[ClaimedJob]) -> list[Outcome]:
        calls.append(numbers(jobs))
        if bad & set(numbers(jobs)):
            raise error()
        return [Done()] * len(jobs)

    return handle


def never() -> bool:
    return False


@given(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=6))
def test_exactly_the_jobs_that_raise_fail_and_every_job_has_one_outcome(count: int, bad: set[int]) -> None:
    calls: list[list[int]] = []
    outcomes = work_through(raising(bad, lambda: ValueError("no"), calls), [job(n) for n in range(count)], never)
    assert len(outcomes) == count
    assert {n for n, outcome in enumerate(outcomes) if isinstance(outcome, Failed)} == bad & set(range(count))
    # Each was done once by a call that did not raise, and a raise costs two calls more for each halving.
    done = [n for call in calls if not bad & set(call) for n in call]
    assert sorted(done) == sorted(set(range(count)) - bad)
    assert len(calls) <= 1 + 2 * len(bad) * count.bit_length()


@pytest.mark.parametrize(("error", "seconds"), [(StoreUnavailableError, AWAY_SECONDS), (BusyError, BUSY_SECONDS)])
def test_nobody_is_to_blame_for_what_is_away_and_no_batch_is_split(error: type[Exception], seconds: float) -> None:
    calls: list[list[int]] = []
    outcomes = work_through(raising({3}, lambda: error("away"), calls), [job(n) for n in range(8)], never)
    assert outcomes == [Waits(seconds, "away")] * 8
    assert len(calls) == 1


def test_a_provider_that_takes_no_job_is_asked_once_more_and_nobody_is_to_blame() -> None:
    calls: list[list[int]] = []
    handle = raising(set(range(8)), lambda: ProviderUnavailableError("away"), calls)
    assert work_through(handle, [job(n) for n in range(8)], never) == [Waits(AWAY_SECONDS, "away")] * 8
    assert len(calls) == 2


@given(st.integers(2, 40), st.data())
def test_a_job_that_no_provider_answers_fails_alone_and_its_neighbours_are_done(
    count: int, data: st.DataObject
) -> None:
    bad = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=min(3, count - 1)))
    calls: list[list[int]] = []
    handle = raising(bad, lambda: ProviderUnavailableError("timed out"), calls)
    jobs = [job(n) for n in range(count)]
    ended: dict[int, Outcome] = {}
    for _round in range(200):  # those that wait come again, together
        outcomes = work_through(handle, jobs, never)
        assert len(outcomes) == len(jobs)
        ended |= {
            number: outcome
            for number, outcome in zip(numbers(jobs), outcomes, strict=True)
            if not isinstance(outcome, Waits)
        }
        jobs = [each for each in jobs if numbers([each])[0] not in ended]
        if not set(numbers(jobs)) - bad:
            break
    assert {number for number, outcome in ended.items() if outcome == Done()} == set(range(count)) - bad
    assert {number for number, outcome in ended.items() if isinstance(outcome, Failed)} <= bad


def test_a_job_that_comes_alone_fails_if_the_providers_answer_something_else() -> None:
    asked: list[bool] = []

    def providers_answer() -> bool:
        asked.append(True)
        return True

    handle = raising({0}, lambda: ProviderUnavailableError("it timed out."), [])
    [outcome] = work_through(handle, [job(0)], never, providers_answer)
    assert outcome == Failed("ProviderUnavailableError", "it timed out.", retry=True)
    assert len(asked) == 1


def test_a_job_that_comes_alone_waits_if_the_providers_answer_nothing() -> None:
    handle = raising({0}, lambda: ProviderUnavailableError("away"), [])
    assert work_through(handle, [job(0)], never, lambda: False) == [Waits(AWAY_SECONDS, "away")]


def test_providers_are_not_asked_for_a_batch_nor_once_the_worker_stops() -> None:
    def providers_answer() -> bool:
        raise AssertionError("asked")

    handle = raising(set(range(4)), lambda: ProviderUnavailableError("away"), [])
    away = Waits(AWAY_SECONDS, "away")
    assert work_through(handle, [job(n) for n in range(4)], never, providers_answer) == [away] * 4
    answers = iter([False, True])
    assert work_through(handle, [job(0)], lambda: next(answers), providers_answer) == [away]


def test_what_goes_away_while_a_batch_is_split_makes_only_the_rest_wait() -> None:
    away = False

    def handle(jobs: Sequence[ClaimedJob]) -> list[Outcome]:
        nonlocal away
        if len(jobs) == 4:
            raise ValueError("somebody")
        away = away or 2 in numbers(jobs)
        if away:
            raise StoreUnavailableError("away")
        return [Done()] * len(jobs)

    outcomes = work_through(handle, [job(n) for n in range(4)], never)
    assert outcomes == [Done(), Done(), Waits(AWAY_SECONDS, "away"), Waits(AWAY_SECONDS, "away")]


@pytest.mark.parametrize("error", [ProviderError("the answer has no vector."), SettingsError("no key is set.")])
def test_an_error_of_ours_keeps_its_sentence(error: Exception) -> None:
    [outcome] = work_through(raising({0}, lambda: error, []), [job(0)], never)
    assert outcome == Failed(type(error).__name__, str(error), retry=True)


@pytest.mark.parametrize("error", [ValueError, RecursionError, SystemExit, ExceptionGroup])
def test_of_a_foreign_error_only_the_place_is_told(error: type[BaseException]) -> None:
    secret = "I live in Lisbon"
    made = ExceptionGroup(secret, [ValueError(secret)]) if error is ExceptionGroup else error(secret)
    [outcome] = work_through(raising({0}, lambda: made, []), [job(0)], never)
    assert isinstance(outcome, Failed)
    assert outcome.error_class == error.__name__
    assert "Lisbon" not in outcome.error_text
    assert "handle (" in outcome.error_text


@pytest.mark.parametrize("error", [ValueError, ProviderError, ProviderUnavailableError])
def test_the_line_of_a_job_that_raises_names_it_and_never_what_a_message_says(error: type[Exception]) -> None:
    jobs = [job(n) for n in range(4)]
    # A provider that does not answer is asked for parts chosen by chance, until one that is alone is to blame.
    bad, lines = jobs[2], list[Any]()
    while not [line for line in lines if line["event"] == "job_raised"]:
        with capture_logs() as lines:
            work_through(raising({2}, lambda: error("I live in Lisbon"), []), jobs, never)
    [line] = [line for line in lines if line["event"] == "job_raised"]
    assert (line["job_id"], line["memory_id"]) == (str(bad.job_id), str(bad.subject_id))
    assert (line["tenant_id"], line["correlation_id"]) == (str(bad.tenant_id), str(bad.correlation_id))
    assert (line["job_type"], line["attempt"], line["error"]) == ("index", 1, error.__name__)
    assert "handle (" in line["text"]
    assert "Lisbon" not in repr(lines)


def test_what_is_logged_about_a_job_that_is_alone_names_it_and_what_comes_after_does_not() -> None:
    jobs = [job(n) for n in range(2)]
    bound: list[dict[str, Any]] = []

    def handle(some: Sequence[ClaimedJob]) -> list[Outcome]:
        bound.append(get_contextvars())
        if len(some) > 1:
            raise ValueError("somebody")
        return [Done()] * len(some)

    work_through(handle, jobs, never)
    assert [fields.get("memory_id") for fields in bound] == [None, *(str(each.subject_id) for each in jobs)]
    assert [fields.get("correlation_id") for fields in bound] == [None, *(str(each.correlation_id) for each in jobs)]
    assert "memory_id" not in get_contextvars()


def test_what_interrupts_the_program_is_no_failure_of_a_job() -> None:
    with pytest.raises(KeyboardInterrupt):
        work_through(raising({0}, KeyboardInterrupt, []), [job(0), job(1)], never)


def test_once_stopped_nothing_more_is_begun() -> None:
    calls: list[list[int]] = []
    stopped: list[bool] = []

    def handle(jobs: Sequence[ClaimedJob]) -> list[Outcome]:
        calls.append(numbers(jobs))
        if len(jobs) == 2:
            stopped.append(True)
        if len(jobs) > 2:
            raise ValueError("somebody")
        return [Done()] * len(jobs)

    outcomes = work_through(handle, [job(n) for n in range(8)], lambda: bool(stopped))
    assert calls == [list(range(8)), [0, 1, 2, 3], [0, 1]]
    assert outcomes[:2] == [Done(), Done()]
    assert {type(outcome) for outcome in outcomes[2:]} == {Waits}
    assert {outcome.seconds for outcome in outcomes[2:] if isinstance(outcome, Waits)} == {0.0}


def test_a_handler_that_answers_for_too_few_jobs_fails_them_with_a_sentence() -> None:
    outcomes = work_through(lambda jobs: [Done()] * (len(jobs) - 1), [job(0), job(1)], never)
    text = (
        "the handler of index answered 0 outcomes for 1 jobs: a mistake of this program. Mend it, then retry the jobs."
    )
    assert outcomes == [Failed("MemoryPipelineError", text, retry=True)] * 2
