"""Leases are renewed while work goes on, whatever kind of work, and for no longer than a job may take."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime

import pytest

from memory_pipeline.stores.postgres.jobs import ClaimedJob
from memory_pipeline.worker.leases import Leases
from memory_pipeline_tests.faults.proxy import TcpProxy
from memory_pipeline_tests.local.inspect import until
from memory_pipeline_tests.worker.support import Bench, Gate, Recorder


def lease_of(bench: Bench) -> datetime:
    [row] = bench.ledger.rows().values()
    assert row.lease_until is not None
    return row.lease_until


def test_leases_are_renewed_while_python_itself_keeps_the_processor_busy(bench: Bench) -> None:
    def compute(_jobs: Sequence[ClaimedJob]) -> None:
        ends = time.monotonic() + 1.5  # longer than the lease
        while time.monotonic() < ends:
            sum(n * n for n in range(1000))

    keys = bench.ledger.add(2)
    recorder = Recorder(compute)
    with bench.worker(recorder):
        bench.check(keys)
    assert set(recorder.seen.values()) == {1}
    assert {row.attempts for row in bench.ledger.rows().values()} == {1}


def test_those_of_a_second_type_are_held_while_the_first_is_worked_on(bench: Bench) -> None:
    """Claimed in one batch, they would otherwise go to another worker before their turn comes."""
    gate = Gate()
    hold = Recorder(lambda _jobs: gate.wait())
    keys = bench.ledger.add(2, job_type="enrich_and_embed") + bench.ledger.add(2, job_type="index")
    options = {"worker_max_concurrent_jobs": 1, "worker_batch_window_ms": 200}
    with bench.worker({"enrich_and_embed": hold, "index": hold}, **options):
        assert gate.reached.wait(10)
        assert len(hold.batches) == 1
        first = {key: row.lease_until for key, row in bench.ledger.rows().items()}
        until(
            lambda: all((row.lease_until or first[key]) > first[key] for key, row in bench.ledger.rows().items()),  # type: ignore[operator]
            "all four are renewed",
        )
        gate.open()
        bench.check(keys)


def test_a_job_is_renewed_until_its_time_out_and_not_beyond(bench: Bench) -> None:
    bench.ledger.add(1)
    claims = bench.ledger.claim()
    before = lease_of(bench)
    with Leases(bench.ledger.database, 0.2) as leases, leases.holding(claims, 0.5):
        assert leases.in_work == 1
        until(lambda: lease_of(bench) != before, "the lease is renewed")
        time.sleep(0.6)
        last = lease_of(bench)
        time.sleep(0.2)
        assert lease_of(bench) == last


def test_what_is_done_is_not_renewed(bench: Bench) -> None:
    bench.ledger.add(1)
    claims = bench.ledger.claim()
    with Leases(bench.ledger.database, 0.2) as leases:
        with leases.holding(claims, 100):
            before = lease_of(bench)
            until(lambda: lease_of(bench) != before, "the lease is renewed")
        assert leases.in_work == 0
        time.sleep(0.5)  # a renewal that was under way is over
        before = lease_of(bench)
        time.sleep(0.3)
        assert lease_of(bench) == before


def test_a_claim_that_was_taken_over_by_another_slot_of_the_worker_stays_held(bench: Bench) -> None:
    (key,) = bench.ledger.add(1)
    late = bench.ledger.claim()
    bench.ledger.end_leases()
    bench.ledger.reclaim()
    new = bench.ledger.claim_keys([key])
    with Leases(bench.ledger.database, 0.2) as leases, leases.holding(late, 100):
        with leases.holding(new, 100):
            pass
        with leases.holding(late, 100), leases.holding(new, 100):
            before = lease_of(bench)
            until(lambda: lease_of(bench) != before, "the new claim is renewed")


def test_renewal_goes_on_after_postgres_was_away(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    with TcpProxy(bench.ledger.urls.pipeline_url) as proxy:
        gate = Gate()
        keys = bench.ledger.add(1)
        with bench.worker(Recorder(lambda _jobs: gate.wait()), postgres_pipeline_url=proxy.url, worker_lease_ms=2000):
            assert gate.reached.wait(10)
            proxy.refuse()
            proxy.cut()
            until(lambda: "leases_not_renewed" in capsys.readouterr().out, "a renewal failed")
            before = lease_of(bench)
            proxy.forward()
            until(lambda: lease_of(bench) > before, "the lease is renewed again")
            gate.open()
            bench.check(keys)
    assert {row.attempts for row in bench.ledger.rows().values()} == {1}


def test_the_thread_that_renews_ends_with_its_leases(bench: Bench) -> None:
    with Leases(bench.ledger.database, 0.2) as leases:
        assert leases.thread in threading.enumerate()
    assert not leases.thread.is_alive()
