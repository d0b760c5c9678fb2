"""Worker processes killed and suspended at every step of a job: it is done once, whatever step that was.

Rows are those of the fault matrix. After each the rig's check of all invariants.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from memory_pipeline_tests.faults.worker_rig import Rig
from memory_pipeline_tests.local.inspect import until

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    "place",
    ["before_claim_commit", "after_claim", "before_mark", "after_work", "after_settle", "after_xadd"],
)
def test_rows_1_to_4_a_worker_killed_at_any_step_of_a_job(rig: Rig, place: str) -> None:
    rig.post(12)
    killed = rig.worker(failpoints=f"{place}:kill", MEMORY_WORKER_MAX_CONCURRENT_JOBS="1")
    until(lambda: killed.exit_code is not None, "the worker has met its end", 30)
    assert killed.exit_code == -signal.SIGKILL
    rig.worker()
    rig.post(4)
    rig.check()
    most = max(row.attempts for row in rig.ledger.rows().values())
    # A claim that did not commit, and jobs that were never claimed, cost no attempt.
    assert most == (1 if place in ("before_claim_commit", "after_settle", "after_xadd") else 2)


def test_row_3_an_index_that_is_killed_page_by_page_ends_the_same(rig: Rig) -> None:
    rig.post(8)
    for _ in range(2):
        killed = rig.worker(failpoints="before_mark:kill")
        until(lambda killed=killed: killed.exit_code is not None, "the worker has met its end", 30)  # type: ignore[misc]
    rig.worker()
    rig.check()


def test_row_6_a_worker_suspended_past_its_lease_finishes_late_and_is_discarded(rig: Rig) -> None:
    rig.post(6)
    late = rig.worker(failpoints="after_work:stop@1", MEMORY_WORKER_MAX_CONCURRENT_JOBS="1")
    until(lambda: stopped(late.pid), "it suspends itself with its work done", 30)
    rig.worker()
    until(lambda: all(state == "completed" for state in rig.states().values()), "the other takes over", 60)
    late.resume()
    until(lambda: "late_results_discarded" in rig.log(0).read_text(), "the late result is discarded", 30)
    rig.post(6)
    rig.check()


def test_row_6_both_stages_of_a_suspended_worker_and_another_leave_one_result(rig: Rig) -> None:
    """Suspended with vectors in Chroma that Postgres does not know of yet."""
    rig.post(6)
    late = rig.worker(failpoints="before_mark:stop@1")
    until(lambda: stopped(late.pid), "it suspends itself", 30)
    time.sleep(4)  # past its lease, with the writer's lock of a tenant
    other = rig.worker()
    time.sleep(3)
    late.resume()
    rig.post(4)
    rig.check(seconds=120)
    assert other.exit_code is None


def test_a_worker_killed_with_jobs_in_work_is_replaced_within_thirty_seconds(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the lease that is the default; printed, because it is a number of the project."""
    options = {"MEMORY_WORKER_LEASE_MS": "20000", "MEMORY_WORKER_POLL_INTERVAL_MS": "1000"}
    keys = rig.add(3, payload={"sleeps": 300})
    victim = rig.worker("obeying", **options)
    until(lambda: set(rig.states().values()) == {"processing"}, "they are in work", 30)
    time.sleep(6)  # so that a lease has been renewed
    rig.worker("obeying", **options)
    victim.kill()
    killed_at = time.monotonic()
    with rig.ledger.database.transaction() as connection:
        connection.execute("UPDATE memory_jobs SET payload = '{}'")
    until(lambda: {rig.states()[key] for key in keys} == {"completed"}, "others have done them", 60)
    seconds = time.monotonic() - killed_at
    with capsys.disabled():
        print(f"\nkilled with SIGKILL, its jobs were done by another worker after {seconds:.1f} s (aim: at most 30 s)")
    rig.check()
    assert seconds <= 30


def test_row_32_a_job_that_exits_the_interpreter_is_dead_after_its_attempts(rig: Rig) -> None:
    exits_are_counted(rig)


def test_row_32_attempts_not_counted_at_the_claim_are_caught(rig: Rig) -> None:
    with pytest.raises(AssertionError, match="every job has ended"):
        exits_are_counted(rig, "--without", "attempts_at_claim")


def test_claims_of_the_dead_that_nobody_takes_away_are_caught(rig: Rig) -> None:
    with pytest.raises(AssertionError, match="an exit or the end"):
        exits_are_counted(rig, "--without", "reclaim")


def exits_are_counted(rig: Rig, *options: str) -> None:
    """A supervisor starts the worker again each time, four times as often as the job may be tried and once more."""
    rig.add(20)
    bad = rig.add(1, payload={"exits": 1})
    rig.add(20)
    exits = 0
    for _ in range(5):
        child = rig.worker("obeying", *options, MEMORY_WORKER_LEASE_MS="1000")
        until(lambda child=child: child.exit_code is not None or at_rest(rig), "an exit or the end", 15)  # type: ignore[misc]
        exits += child.exit_code is not None
    rig.check(dead=bad, seconds=5)
    assert exits == 4
    [row] = [row for row in rig.ledger.rows().values() if row.state == "dead"]
    assert (row.attempts, row.error_class) == (4, "LeaseExpired")


def at_rest(rig: Rig) -> bool:
    return all(state in ("completed", "dead") for state in rig.states().values())


def test_row_33_a_job_that_raises_is_dead_and_others_flow(rig: Rig) -> None:
    rig.worker("obeying")
    bad = []
    for _ in range(5):
        rig.add(30)
        bad += rig.add(1, payload={"raises": 1})
    rig.check(dead=bad)
    assert {row.error_class for row in rig.ledger.rows().values() if row.state == "dead"} == {"ValueError"}
    assert {row.attempts for row in rig.ledger.rows().values() if row.state == "completed"} == {1}


def test_the_log_of_a_worker_names_the_job_that_failed_and_not_what_it_holds(rig: Rig) -> None:
    user_id, secret = uuid4(), "I live in Lisbon"
    rig.add(5)
    bad = rig.add(1, payload={"raises": secret}, user_id=user_id)
    rig.worker("obeying", MEMORY_RETRY_ATTEMPTS="1")
    rig.check(dead=bad)
    [row] = [row for row in rig.ledger.rows().values() if row.state == "dead"]
    lines = [json.loads(line) for line in rig.logs.splitlines()]
    about = [line for line in lines if line["event"] in ("job_raised", "job_failed", "job_dead")]
    assert [line["event"] for line in about] == ["job_raised", "job_failed", "job_raised", "job_dead"]
    ids = {"job_id": row.job_id, "tenant_id": row.tenant_id, "memory_id": row.subject_id, "user_id": user_id}
    for line in about:
        assert ids.items() <= {name: UUID(line[name]) for name in ids}.items()
        assert line["correlation_id"] == str(row.correlation_id)
    assert secret not in rig.logs


def test_the_command_finishes_what_is_in_work_when_told_to_stop(rig: Rig) -> None:
    """The real command with the real models, stopped and started while messages come."""
    with rig.traffic(8):
        for _ in range(2):
            with rig.command():
                time.sleep(4)
    assert {row.state for row in rig.ledger.rows().values()} <= {"completed", "pending"}
    assert {row.attempts for row in rig.ledger.rows().values()} <= {0, 1}
    with rig.command():
        rig.rest()


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"
