"""The proxy breaks what it is told to break, and nothing else: the tests of faults stand on it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import psycopg
import pytest
import redis

from memory_pipeline_tests.conftest import Database
from memory_pipeline_tests.faults.proxy import TcpProxy


@pytest.fixture
def echo_url() -> Iterator[str]:
    """A server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def echo(end: socket.socket) -> None:
        with end:
            try:
                while data := end.recv(1000):
                    end.sendall(data)
            except ConnectionResetError:
                pass

    def serve() -> None:
        threads = []
        while True:
            try:
                end, _ = listener.accept()
            except OSError:
                break
            threads.append(threading.Thread(target=echo, args=(end,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    server = threading.Thread(target=serve)
    server.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/some/path"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    server.join()


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def exchange(end: socket.socket, data: bytes) -> bytes:
    end.sendall(data)
    return end.recv(1000)


def test_it_stands_before_postgres_and_redis_alike(database: Database, redis_url: str) -> None:
    with TcpProxy(database.app_url) as proxy, psycopg.connect(proxy.url) as connection:
        assert connection.execute("SELECT current_user, current_database()").fetchone() == (
            "memory_app",
            database.name,
        )
        assert proxy.accepted == 1
    with TcpProxy(redis_url) as proxy, redis.Redis.from_url(proxy.url) as client:
        client.set("name", "value")
        with redis.Redis.from_url(redis_url) as direct:
            assert direct.get("name") == b"value"


def test_the_url_keeps_its_path(echo_url: str) -> None:
    with TcpProxy(echo_url) as proxy:
        assert proxy.url == f"http://127.0.0.1:{proxy.port}/some/path"


def test_cut_connections_are_reset_and_new_ones_go_through(echo_url: str) -> None:
    with TcpProxy(echo_url) as proxy:
        with connect(proxy) as end:
            assert exchange(end, b"before") == b"before"
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        with connect(proxy) as end:
            assert exchange(end, b"after") == b"after"


def test_what_is_refused_is_refused_at_once_and_open_connections_stay(echo_url: str) -> None:
    with TcpProxy(echo_url) as proxy, connect(proxy) as end:
        assert exchange(end, b"one") == b"one"
        proxy.refuse()
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                connect(proxy)
        assert exchange(end, b"two") == b"two"
        proxy.forward()
        with connect(proxy) as another:
            assert exchange(another, b"three") == b"three"
        assert proxy.accepted == 2


def test_a_black_hole_takes_everything_and_answers_nothing(echo_url: str) -> None:
    with TcpProxy(echo_url) as proxy, connect(proxy) as old:
        assert exchange(old, b"before") == b"before"
        proxy.black_hole()
        with connect(proxy) as new:
            for end in (old, new):
                end.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    exchange(end, b"during")
        proxy.forward()
        with pytest.raises(TimeoutError):
            exchange(old, b"still")
        with connect(proxy) as fresh:
            assert exchange(fresh, b"after") == b"after"


def test_a_request_is_lost_before_the_server_sees_it(echo_url: str) -> None:
    with TcpProxy(echo_url) as proxy:
        proxy.lose_request(b"poison")
        with connect(proxy) as end:
            assert exchange(end, b"harmless") == b"harmless"
            with pytest.raises(ConnectionResetError):
                exchange(end, b"with poison in it")
        assert proxy.lost == 1
        with connect(proxy) as end:
            assert exchange(end, b"poison") == b"poison"


@pytest.mark.parametrize("kept", [True, False])
def test_a_commit_without_a_reply_is_kept_and_one_that_never_arrived_is_not(database: Database, kept: bool) -> None:
    with TcpProxy(database.admin_url) as proxy:
        (proxy.lose_reply if kept else proxy.lose_request)()
        connection = psycopg.connect(proxy.url)
        connection.execute("CREATE TABLE public.kept ()")
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
        connection.close()
        assert proxy.lost == 1
    with psycopg.connect(database.admin_url) as connection:
        assert connection.execute("SELECT to_regclass('public.kept') IS NOT NULL").fetchone() == (kept,)
