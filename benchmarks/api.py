"""Times the API against bare inserts on the same Postgres, all in one run.

    python -m benchmarks.api

1. A bare single-row insert and commit, then a message posted over HTTP, both at a steady rate from as many connections:
   what the API adds to the median and to the 99th percentile. Latency counts from when a request was due, so that a
   server which falls behind can't hide it.
2. Bulk: batches of 500 messages. 3. Reads of a conversation of 100 messages from the cache. 4. A chat session: post a
   turn, read the conversation; how often the cache answered.

The API is a process of its own, as `memory-pipeline up` starts it; the load comes from this process, on the same cores.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import statistics
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep
from uuid import uuid4

import psycopg

from memory_pipeline.client import MemoryClient
from memory_pipeline.commands.session import scratch_pipeline
from memory_pipeline.local.issuer import DEVELOPMENT_ISSUER, ensure_development_issuer, sign_token, subject_of
from memory_pipeline.local.own_servers import ApiServer
from memory_pipeline.serving.administration import Administration
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline.stores.postgres.permissions import Author
from memory_pipeline.stores.postgres.tenants import ensure_tenant, ensure_user, find_user
from memory_pipeline.stores.redis.manager import RedisManager

RATE = 200
CONNECTIONS = 4
BATCH = 500
TEXT = "I moved to Lisbon in May and work as a nurse at the harbour clinic; on Sundays we cook fish stew together."
SESSION_TURNS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="how long each steady rate is held")
    parser.add_argument("--bulk", type=int, default=50_000, help="messages of the bulk part")
    arguments = parser.parse_args()
    with scratch_pipeline("memory-bench-") as pipeline:
        token = user_token(pipeline)
        api = ApiServer(Path(pipeline.settings.home) / "api.log", port=free_port(), env={})
        api.start()
        try:
            api.wait_ready()
            measure(pipeline, api.port, token, arguments.seconds, arguments.bulk)
        finally:
            api.stop()


def user_token(pipeline: Pipeline) -> str:
    """Return a token of the development issuer for a new user."""
    home = pipeline.settings.home
    ensure_development_issuer(home)
    with pipeline.database.transaction() as connection:
        tenant_id = ensure_tenant(connection, "bench")
        ensure_user(connection, tenant_id, "bench@example.org", "Bench")
        user = find_user(connection, "bench@example.org")
    with RedisManager(str(pipeline.settings.redis_url)) as redis:
        subject = subject_of(user.user_id)
        administration = Administration(pipeline.database, redis, Author("benchmark", uuid4()))
        administration.link_identity(DEVELOPMENT_ISSUER, subject, user, unseen=True)
    return sign_token(home, user.user_id, lifetime_seconds=7200)


def measure(pipeline: Pipeline, port: int, token: str, seconds: float, bulk: int) -> None:
    steady(lambda: Poster(port, token).post_one, seconds=3)  # warm up
    bare = steady(lambda: bare_insert(pipeline), seconds=seconds)
    posted = steady(lambda: Poster(port, token).post_one, seconds=seconds)
    print(f"single messages at {RATE}/s over {CONNECTIONS} connections, {seconds:g} s each")
    for name, at, aim in (("p50", 50, 4.0), ("p99", 99, 20.0)):
        difference = percentile(posted, at) - percentile(bare, at)
        print(
            f"  {name}: bare insert {percentile(bare, at):6.2f} ms, API {percentile(posted, at):6.2f} ms,"
            f" difference {difference:6.2f} ms (aim: at most {aim:g} ms)"
        )
    rate = post_bulk(port, token, bulk)
    print(f"bulk, batches of {BATCH}, 2 connections: {rate:,.0f} messages/s (aim: at least 5,000)")
    reads = read_cached(port, token)
    print(
        f"reads of 100 messages from the cache: p50 {percentile(reads, 50):.2f} ms,"
        f" p99 {percentile(reads, 99):.2f} ms (aim: p99 at most 10 ms)"
    )
    print(f"cache hit rate of a chat session: {100 * chat_session(port, token):.1f} % (aim: at least 95 %)")


def steady(connect: Callable[[], Callable[[], None]], *, seconds: float) -> list[float]:
    """Return the latencies, in ms, of calls at RATE per second in all, spread over CONNECTIONS connections."""
    calls = int(RATE * seconds / CONNECTIONS)
    latencies: list[float] = []
    failures: list[BaseException] = []
    gate = threading.Barrier(CONNECTIONS)

    def run(number: int) -> None:
        try:
            call = connect()
            gate.wait()
            begin = perf_counter() + number / RATE
            mine = []
            for turn in range(calls):
                due = begin + turn * CONNECTIONS / RATE
                sleep(max(0.0, due - perf_counter()))
                call()
                mine.append(1000 * (perf_counter() - due))
            latencies.extend(mine)
        except BaseException as error:
            failures.append(error)
            gate.abort()
            raise

    threads = [threading.Thread(target=run, args=[number]) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return latencies


def bare_insert(pipeline: Pipeline) -> Callable[[], None]:
    """A connection that inserts one row of text into a table without indexes but its key, and commits."""
    assert pipeline.settings.postgres_admin_url is not None
    connection = psycopg.connect(pipeline.settings.postgres_admin_url, autocommit=True)
    connection.execute("SELECT pg_advisory_lock(1)")
    connection.execute("CREATE TABLE IF NOT EXISTS public.bare (id uuid PRIMARY KEY, content text)")
    connection.execute("SELECT pg_advisory_unlock(1)")

    def insert() -> None:
        connection.execute("INSERT INTO public.bare VALUES (%s, %s)", [uuid4(), TEXT])

    return insert


class Poster:
    """One keep-alive connection to the API."""

    def __init__(self, port: int, token: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.conversation = uuid4().hex

    def post_one(self) -> None:
        self.post([message(self.conversation)])

    def post(self, messages: list[dict[str, str]]) -> None:
        self.connection.request("POST", "/api/v1/memory/messages", json.dumps({"messages": messages}), self.headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the API answered {answer.status}: {body[:300]!r}")


def message(conversation: str) -> dict[str, str]:
    return {"id": uuid4().hex, "conversation_id": conversation, "role": "user", "content": TEXT}


def post_bulk(port: int, token: str, count: int) -> float:
    """Return messages per second of two connections that post batches one after the other."""

    def run() -> None:
        poster = Poster(port, token)
        for _ in range(count // BATCH // 2):
            poster.post([message(poster.conversation) for _ in range(BATCH)])

    threads = [threading.Thread(target=run) for _ in range(2)]
    started = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count // BATCH // 2 * 2 * BATCH / (perf_counter() - started)


def read_cached(port: int, token: str, reads: int = 2_000) -> list[float]:
    """Return the latencies, in ms, of reads of one conversation one after the other."""
    with MemoryClient(f"http://127.0.0.1:{port}", token) as client:
        taken = client.post_messages([message("read") for _ in range(100)])
        path = f"/api/v1/memory/conversations/{taken['messages'][0]['conversation_id']}"
        poster = Poster(port, token)
        latencies = []
        for _ in range(reads):
            started = perf_counter()
            poster.connection.request("GET", path, headers=poster.headers)
            body = poster.connection.getresponse().read()
            latencies.append(1000 * (perf_counter() - started))
        if len(json.loads(body)["messages"]) != 100:
            raise RuntimeError("a read did not answer the 100 messages")
        return latencies


def chat_session(port: int, token: str) -> float:
    """Return the share of reads that the cache answered while a user and an assistant talk."""
    with MemoryClient(f"http://127.0.0.1:{port}", token) as client:
        before = client.cache_stats()
        conversation = uuid4().hex
        for turn in range(SESSION_TURNS):
            role = ("user", "assistant")[turn % 2]
            taken = client.post_messages([{**message(conversation), "role": role}])
            client.conversation(taken["messages"][0]["conversation_id"])
        after = client.cache_stats()
    hits, misses = float(after["hits"] - before["hits"]), float(after["misses"] - before["misses"])
    return hits / (hits + misses)


def percentile(values: list[float], at: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[at - 1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
