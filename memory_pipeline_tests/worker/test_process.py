"""A worker as a whole: what it says of itself, and how it begins and ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest
from structlog.testing import capture_logs

from memory_pipeline.failpoints import VARIABLE, reached
from memory_pipeline.model.errors import MemoryPipelineError, SettingsError, StoreUnavailableError, WiringError
from memory_pipeline.serving.gauges import sample_gauges
from memory_pipeline.serving.wiring import Wiring
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.job_reports import workers_seen
from memory_pipeline.stores.postgres.jobs import ClaimedJob
from memory_pipeline.stores.redis.announcements import read_announcements
from memory_pipeline.stores.redis.manager import RedisManager
from memory_pipeline.worker import process
from memory_pipeline.worker.handlers import Handlers
from memory_pipeline.worker.process import Worker
from memory_pipeline_tests.conftest import Database as Urls
from memory_pipeline_tests.faults.proxy import TcpProxy
from memory_pipeline_tests.local.inspect import until
from memory_pipeline_tests.worker.support import Bench, Gate, Recorder, count_of


def workers_announced(bench: Bench) -> int:
    with RedisManager(bench.redis_url) as manager:
        return sum(":worker:" in key for key in read_announcements(manager))


def test_a_worker_is_announced_for_as_long_as_it_works(bench: Bench) -> None:
    with bench.worker(Recorder()):
        assert workers_announced(bench) == 1
    assert workers_announced(bench) == 0


def test_a_worker_on_another_database_than_others_refuses_to_start(bench: Bench, database: Urls) -> None:
    with (
        Database(bench.ledger.urls.pipeline_url, role="memory_pipeline") as elsewhere,
        RedisManager(bench.redis_url) as manager,
        Wiring("worker", {"MEMORY_POSTGRES_PIPELINE_URL": elsewhere}, manager, host="another machine"),
        pytest.raises(WiringError, match="another machine"),
        bench.worker(Recorder(), postgres_pipeline_url=database.pipeline_url),
    ):
        pass


def test_the_health_line_tells_what_there_is(bench: Bench) -> None:
    gate = Gate()

    def wait(jobs: Sequence[ClaimedJob]) -> None:
        if any(job.payload for job in jobs):
            gate.wait()

    with capture_logs() as lines, bench.worker(Recorder(wait), worker_health_check_interval_ms=1000) as worker:
        done = bench.ledger.add(3)
        bench.rest()
        held = bench.ledger.add(1, payload={"wait": 1})
        later = bench.ledger.add(2, delay_seconds=3600)
        assert gate.reached.wait(10)
        seen = len(lines)
        until(lambda: any(line["event"] == "worker_health" for line in lines[seen:]), "a health line is written")
        gate.open()
    [line, *_] = [line for line in lines[seen:] if line["event"] == "worker_health"]
    assert (line["worker"], line["in_progress"]) == (worker.name, 1)
    assert (line["completed"], line["processing"], line["pending"]) == (len(done), len(held), len(later))
    assert line["uptime_seconds"] >= 0


def test_log_lines_name_correlation_ids_and_never_what_a_job_holds(bench: Bench) -> None:
    with capture_logs() as lines, bench.worker(Recorder()):
        bench.ledger.add(1, payload={"secret": "I live in Lisbon"})
        bench.rest()
    [row] = bench.ledger.rows().values()
    [line] = [line for line in lines if line["event"] == "jobs_worked_on"]
    assert line["correlation_ids"] == [str(row.correlation_id)]
    assert "Lisbon" not in repr(lines)


def test_metrics_describe_the_queue_and_what_was_done(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SAMPLE_SECONDS", 0.05)
    done = count_of("memory_jobs_ended_total", job_type="index", outcome="done")
    lag = count_of("memory_searchable_lag_seconds_count", job_type="index")
    with bench.worker(Recorder()):
        bench.ledger.add(4)
        bench.ledger.add(2, delay_seconds=3600)
        until(lambda: count_of("memory_queue_jobs", job_type="index", state="completed") == 4, "four are done")
        until(lambda: count_of("memory_queue_jobs", job_type="index", state="pending") == 2, "two wait")
    assert count_of("memory_jobs_ended_total", job_type="index", outcome="done") == done + 4
    assert count_of("memory_searchable_lag_seconds_count", job_type="index") == lag + 4


@pytest.mark.parametrize("role", ["memory_pipeline", "memory_app"])
def test_row_29_a_long_open_writer_is_measured_whosever_it_is(bench: Bench, role: str, tmp_path: Path) -> None:
    urls = bench.ledger.urls
    # The server is shared with other tests, this database is not.
    sample_gauges(bench.ledger.database, tmp_path)
    assert count_of("memory_oldest_writer_seconds") == 0
    with psycopg.connect(urls.app_url if role == "memory_app" else urls.pipeline_url) as writer:
        writer.execute("SELECT pg_current_xact_id()")
        sample_gauges(bench.ledger.database, tmp_path)
        time.sleep(0.2)
        sample_gauges(bench.ledger.database, tmp_path)
        assert 0.2 <= count_of("memory_oldest_writer_seconds") < 10
        writer.rollback()
    sample_gauges(bench.ledger.database, tmp_path)
    assert count_of("memory_oldest_writer_seconds") == 0


def test_a_slot_that_ended_by_itself_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)

    def interrupt(_jobs: Sequence[ClaimedJob]) -> None:
        raise KeyboardInterrupt

    bench.ledger.add(1)
    with bench.worker(Recorder(interrupt), worker_max_concurrent_jobs=1) as worker:
        worker.require_running()

        def ended() -> bool:
            try:
                worker.require_running()
            except MemoryPipelineError:
                return True
            return False

        until(ended, "the worker says that it is not whole")


def trouble(worker: Worker) -> str:
    try:
        worker.require_running()
    except MemoryPipelineError as error:
        return str(error)
    return ""


def test_a_worker_whose_slots_all_hang_says_so_and_is_not_seen_any_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "SAMPLE_SECONDS", 0.05)
    gate = Gate()
    bench.ledger.add(1, job_type="index")
    with bench.worker(Recorder(lambda _jobs: gate.wait()), worker_job_timeout_ms=300, worker_batch_jobs=1) as worker:
        assert gate.reached.wait(10)
        assert trouble(worker) == ""
        threading.Event().wait(1)
        assert trouble(worker) == ""  # one of two slots is late, the other works
        assert workers_noted(bench) == 1
        bench.ledger.add(1, job_type="detect_relations")
        until(lambda: trouble(worker) != "", "the worker says that it hangs")
        assert "consumer-0" in trouble(worker)
        assert "consumer-1" in trouble(worker)
        until(lambda: note_is_old(bench), "the worker does not count itself as well any more")
        gate.open()


def test_a_slot_that_hangs_for_very_long_is_told_though_others_work(bench: Bench) -> None:
    gate = Gate()
    bench.ledger.add(1)
    with bench.worker(Recorder(lambda _jobs: gate.wait()), worker_job_timeout_ms=100) as worker:
        until(lambda: "consumer-" in trouble(worker), "the worker says that a slot hangs")
        gate.open()


def test_outcomes_that_wait_for_postgres_are_no_work_that_hangs(bench: Bench) -> None:
    gate = Gate()
    bench.ledger.add(1)
    with (
        TcpProxy(bench.ledger.urls.pipeline_url) as proxy,
        bench.worker(
            Recorder(lambda _jobs: gate.wait()),
            postgres_pipeline_url=proxy.url,
            worker_job_timeout_ms=100,
            worker_max_concurrent_jobs=1,
        ) as worker,
    ):
        assert gate.reached.wait(10)
        proxy.refuse()
        proxy.cut()
        gate.open()
        threading.Event().wait(0.5)
        assert trouble(worker) == ""
        proxy.forward()
        bench.rest()


def workers_noted(bench: Bench) -> int:
    with bench.ledger.database.transaction() as connection:
        return workers_seen(connection, 3600)


def note_is_old(bench: Bench) -> bool:
    with bench.ledger.database.transaction() as connection:
        return workers_seen(connection, 0.5) == 0


def test_a_job_that_does_not_end_keeps_no_worker_from_stopping(bench: Bench) -> None:
    gate = Gate()
    (key,) = bench.ledger.add(1)
    with (
        capture_logs() as lines,
        bench.worker(Recorder(lambda _jobs: gate.wait()), worker_job_timeout_ms=300, worker_max_concurrent_jobs=1),
    ):
        assert gate.reached.wait(10)
    assert [line["threads"] for line in lines if line["event"] == "worker_threads_left"] == [["consumer-0"]]
    assert bench.row(key).state == "processing"
    gate.open()
    until(lambda: not [t for t in threading.enumerate() if t.name == "consumer-0"], "the thread has ended")
    bench.ledger.end_leases()
    with bench.worker(Recorder()):
        bench.check([key])


@pytest.mark.parametrize("missing", ["postgres_pipeline_url", "redis_url"])
def test_a_worker_without_its_stores_says_which_setting_is_missing(bench: Bench, missing: str) -> None:
    worker = Worker(bench.settings.model_copy(update={missing: None}))
    with pytest.raises(SettingsError, match=f"MEMORY_{missing.upper()}"), worker:
        pass


def test_a_start_that_fails_leaves_nothing_running(bench: Bench) -> None:
    before = set(threading.enumerate())

    def fail(_pipeline: Pipeline, _redis: RedisManager) -> Handlers:
        raise StoreUnavailableError("the embedder is away")

    with pytest.raises(StoreUnavailableError, match="embedder"), Worker(bench.settings, fail):
        pass
    assert set(threading.enumerate()) - before == set()
    assert workers_announced(bench) == 0


def test_a_worker_starts_without_redis(bench: Bench) -> None:
    keys = bench.ledger.add(5)
    with bench.worker(Recorder(), redis_url="redis://127.0.0.1:1/0"):
        bench.check(keys)


def test_failpoints_do_nothing_unless_a_test_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    reached("after_claim")
    monkeypatch.setenv(VARIABLE, "after_work:kill,after_claim:sleep=x@3")
    reached("after_settle")
    monkeypatch.setenv(VARIABLE, "somewhere:explode@2")
    reached("somewhere")
    with pytest.raises(ValueError, match="explode"):
        reached("somewhere")
