"""Outages over HTTP that take their time: a Postgres that crashes or hangs, lost answers, very long conversations."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from memory_pipeline.local.postgres import PostgresServer
from memory_pipeline.model.window import DayWindow
from memory_pipeline.settings import Settings
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.migrate import migrate
from memory_pipeline_tests.api.stack import ApiStack, running
from memory_pipeline_tests.api.support import PREFIX, Json, Person, TestIssuer, message
from memory_pipeline_tests.api.test_deletion_races import DAY, START, Quoting, enrich_once, halves
from memory_pipeline_tests.api.test_outage import CONVERSATIONS, MESSAGES, contents, give_redis_time, outages
from memory_pipeline_tests.local.inspect import until
from memory_pipeline_tests.stages.support import HashedEmbedder, embed, summarize

pytestmark = pytest.mark.faults

Response = Any
TALKS = 4


@pytest.fixture
def issuer(settings: Settings) -> TestIssuer:
    return TestIssuer(settings.home)


@contextmanager
def api_on(server: PostgresServer, settings: Settings, issuer: TestIssuer) -> Iterator[ApiStack]:
    """The API on a Postgres that may be killed."""
    migrate(server.url())
    urls = {
        "postgres_admin_url": server.url(),
        "postgres_app_url": server.url("memory_app"),
        "postgres_pipeline_url": server.url("memory_pipeline"),
    }
    with running(settings.model_copy(update=urls), issuer) as api:
        give_redis_time(api)
        yield api


def post(api: ApiStack, person: Person, *messages: Json) -> Response:
    return api.client.post(MESSAGES, json={"messages": messages}, headers=person.headers)


def replayed(api: ApiStack) -> bool:
    return api.services.buffer.stats().entries == 0


def talk(api: ApiStack, person: Person, talk_number: int, first: int, turns: int) -> list[str]:
    """Post the turns of a conversation one after the other; return how each was answered."""
    answers = []
    for number in range(first, first + turns):
        name = f"{talk_number}/{number}"
        answer = post(api, person, message(name, id=name, conversation_id=f"talk-{talk_number}"))
        answers.append(answer.json()["status"] if answer.status_code in (200, 202) else answer.json()["error"]["code"])
    return answers


def test_a_postgres_that_crashes_under_load_loses_and_doubles_nothing_and_keeps_the_order(
    settings: Settings, issuer: TestIssuer, postgres_server: PostgresServer
) -> None:
    with api_on(postgres_server, settings, issuer) as api, ThreadPoolExecutor(TALKS) as threads:
        ana = api.person()

        def all_talk(first: int, turns: int) -> list[list[str]]:
            return list(threads.map(lambda number: talk(api, ana, number, first, turns), range(TALKS)))

        assert {answer for answers in all_talk(0, 5) for answer in answers} == {"durable"}
        told: Counter[str] = Counter()
        for crash in range(3):
            working = [threads.submit(talk, api, ana, number, 5 + 40 * crash, 40) for number in range(TALKS)]
            time.sleep(0.2)
            postgres_server.kill()
            time.sleep(1)
            postgres_server.start()
            for work in working:
                told.update(work.result())
            until(lambda: replayed(api), "the buffer is replayed", seconds=60)
        assert set(told) == {"durable", "buffered"}, told
        for number in range(TALKS):
            stored = api.rows(
                "SELECT content FROM messages WHERE content LIKE %s ORDER BY sent_at, position", f"{number}/%"
            )
            assert [row[0] for row in stored] == [f"{number}/{turn}" for turn in range(125)]
        assert halves(api) == []
        assert api.rows("SELECT count(*) FROM memory_jobs WHERE state = 'dead'") == [(0,)]


def test_a_postgres_that_hangs_is_given_up_and_writes_are_buffered_until_it_is_back(
    settings: Settings, issuer: TestIssuer, postgres_server: PostgresServer
) -> None:
    with api_on(postgres_server, settings, issuer) as api:
        ana = api.person()
        assert post(api, ana, message("before", id="m0")).status_code == 200
        postgres_server.running().suspend()
        try:
            started = time.monotonic()
            assert post(api, ana, message("one", id="m1")).status_code == 202
            assert time.monotonic() - started < 30
            started = time.monotonic()
            for number in range(2, 10):
                assert post(api, ana, message(f"turn {number}", id=f"m{number}")).status_code == 202
            assert time.monotonic() - started < 10, "known to be away"
            until(lambda: api.client.get(f"{PREFIX}/health").status_code == 503, "health tells of it", seconds=30)
        finally:
            postgres_server.running().resume()
        until(lambda: replayed(api), "the buffer is replayed", seconds=60)
        until(lambda: api.client.get(f"{PREFIX}/health").status_code == 200, "health is well again", seconds=30)
        assert [row[0] for row in api.rows("SELECT content FROM messages ORDER BY position")] == [
            "before",
            "one",
            *(f"turn {number}" for number in range(2, 10)),
        ]


def test_a_write_whose_commit_was_not_answered_is_buffered_and_stored_once(
    settings: Settings, issuer: TestIssuer
) -> None:
    with outages(settings, issuer) as outage:
        ana = outage.api.person()
        first = outage.post(ana, message("before", id="m0")).json()["messages"][0]
        assert contents(outage.read(ana, first["conversation_id"])) == ["before"]
        outage.proxies[0].lose_reply()
        assert outage.post(ana, message("unsure", id="m1")).status_code == 202
        assert outage.proxies[0].lost == 1
        until(outage.replayed, "the buffer is replayed")
        assert outage.stored() == ["before", "unsure"]
        # Nobody may read the list from before, which lacks it.
        assert contents(outage.read(ana, first["conversation_id"])) == ["before", "unsure"]
        again = outage.post(ana, message("unsure", id="m1"))
        assert (again.status_code, len(outage.stored())) == (200, 2)


def test_two_processes_that_buffer_in_one_outage_replay_once_each(settings: Settings, issuer: TestIssuer) -> None:
    with outages(settings, issuer) as one, outages(settings, issuer) as other:
        ana = one.api.person()
        for process in (one, other):
            assert process.post(ana, message("before", id="m0")).status_code == 200
            process.begin()
        names = [f"m{number}" for number in range(1, 41)]
        for number, name in enumerate(names):
            process = (one, other)[number % 2]
            assert process.post(ana, message(name, id=name)).status_code == 202
        # The same again through the other process.
        for number, name in enumerate(names[:10]):
            assert (other, one)[number % 2].post(ana, message(name, id=name)).status_code == 202
        one.end()
        other.end()
        until(one.replayed, "the buffer is replayed", seconds=60)
        assert one.stored() == ["before", *names]
        assert one.api.rows("SELECT state, count(*) FROM memory_jobs WHERE job_type = 'replay_write' GROUP BY 1") == [
            ("completed", 50)
        ]


def test_a_conversation_of_twenty_thousand_messages_is_deleted_with_all_that_was_made_of_it(
    settings: Settings, issuer: TestIssuer
) -> None:
    """Beside one as long that stays, both with facts, vectors and a summary that rests on both."""
    with running(settings, issuer) as api, Database(str(settings.postgres_pipeline_url)) as pipeline:
        ana = api.person()
        ids: dict[str, UUID] = {}
        for talk in ("doomed", "kept"):
            for page in range(20):
                answer = post(
                    api,
                    ana,
                    *(
                        message(
                            f"{talk} {number}",
                            id=f"{talk}-{number}",
                            conversation_id=talk,
                            sent_at=(START + timedelta(seconds=number)).isoformat(),
                        )
                        for number in range(1000 * page, 1000 * page + 1000)
                    ),
                )
                assert answer.status_code == 200, answer.text
            ids[talk] = UUID(answer.json()["messages"][0]["conversation_id"])
        enrich_once(pipeline, 1)
        embed(pipeline, HashedEmbedder(), DAY)
        week = DayWindow.of_day(datetime(2026, 3, 2, tzinfo=UTC).date())
        summarize(pipeline, Quoting(most=10_000), week)
        assert api.rows("SELECT kind, count(*) FROM memories GROUP BY 1 ORDER BY 1") == [
            ("episode", 40_000),
            ("fact", 80_000),
            ("summary", 1),
        ]
        with ThreadPoolExecutor(1) as threads:
            started = time.monotonic()
            deletion = threads.submit(api.client.delete, f"{CONVERSATIONS}/{ids['doomed']}", headers=ana.headers)
            meanwhile = 0
            while not deletion.done():
                assert post(api, ana, message("meanwhile", id=f"x{meanwhile}", conversation_id="x")).status_code == 200
                meanwhile += 1
                time.sleep(0.05)
            seconds = time.monotonic() - started
        print(f"deleted in {seconds:.1f} s, {meanwhile} messages posted meanwhile")
        answer = deletion.result()
        assert answer.status_code == 200, answer.text
        assert (answer.json()["messages"], answer.json()["memories"]) == (20_000, 60_001)
        assert meanwhile > 0
        assert halves(api) == []
        assert api.rows("SELECT count(*) FROM memories WHERE conversation_id = %s", ids["kept"]) == [(60_000,)]
        assert api.rows("SELECT count(*) FROM memories WHERE content LIKE '%%doomed%%'") == [(0,)]
        assert api.rows(
            "SELECT count(*) FROM memory_embeddings e WHERE NOT EXISTS"
            " (SELECT FROM memories m WHERE m.memory_id = e.memory_id)"
        ) == [(0,)]
        assert api.client.get(f"{CONVERSATIONS}/{ids['doomed']}", headers=ana.headers).status_code == 404
        assert len(contents(api.client.get(f"{CONVERSATIONS}/{ids['kept']}", headers=ana.headers))) == 100
