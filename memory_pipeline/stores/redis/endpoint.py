"""One Redis server as this process knows it: its connections, and whether it is there.

Once a call has found the server away nobody tries it any more but one thread of ours, which asks again several times a
second. When it answers, that thread first pays what is owed (values that could not be dropped meanwhile) and then lets
the calls through again.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import redis
import structlog
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from memory_pipeline import metrics
from memory_pipeline.model.errors import SettingsError
from memory_pipeline.stores.redis.failures import failure_of

_QUICK_POOL_SECONDS = 0.01
_PATIENT_SECONDS = 5.0
_PROBE_SECONDS = 0.25
"""Time-out of a probe, and the pause before each."""
_OWED_SECONDS = 2.0
"""Time-out while what is owed is paid."""

_log = structlog.get_logger(__name__)


class Endpoint:
    """Connections to one server: `quick` for what may be missing, `patient` for what must arrive."""

    def __init__(
        self, url: str, *, setting: str, pool_size: int, quick_seconds: float, tell: Callable[[], None]
    ) -> None:
        """Connect to nothing yet. Raises SettingsError for what is no address.

        quick_seconds: longest wait of the quick client for an answer, and as long for a new connection.
        tell: called when the server has gone away or come back.
        """
        self._url = url
        self.setting = setting
        self._tell = tell
        self.quick = self._client(quick_seconds, _QUICK_POOL_SECONDS, pool_size)
        # A server that hangs is not helped by asking again, so only lost connections are retried.
        retry = Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.5), 4, supported_errors=(redis.ConnectionError,))
        self.patient = self._client(_PATIENT_SECONDS, _PATIENT_SECONDS, pool_size, retry)
        self.run_id: str | None = None
        """Which run of the server answered last; another one may have lost the last second of writes."""
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._back = threading.Event()
        self._back.set()
        self._watcher: threading.Thread | None = None
        self._debts: list[Callable[[redis.Redis], None]] = []

    @property
    def away(self) -> bool:
        """Whether the last call found the server away and no probe has found it back since."""
        if self._back.is_set():
            return False
        self._watch()
        return True

    def on_return(self, pay: Callable[[redis.Redis], None]) -> None:
        """Have `pay` called with a connection whenever the server is back, before anybody else uses it."""
        self._debts.append(pay)

    def lost(self, error: redis.RedisError) -> None:
        """Tell that a call found the server away."""
        with self._lock:
            first = self._back.is_set()
            self._back.clear()
        if first:
            self._tell()
            _log.warning("redis_away", setting=self.setting, error=f"{type(error).__name__}: {error}")
        self._watch()

    def close(self) -> None:
        """End the probing and all connections."""
        self._closing.set()
        with self._lock:
            watcher = self._watcher
        if watcher is not None:
            watcher.join(_OWED_SECONDS * 2)
        self.quick.connection_pool.disconnect()
        self.patient.connection_pool.disconnect()

    def _client(self, seconds: float, pool_seconds: float, pool_size: int, retry: Retry | None = None) -> redis.Redis:
        options: dict[str, Any] = {
            "max_connections": pool_size,
            "timeout": pool_seconds,
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            "socket_keepalive": True,
            # RESP 2 and no driver info: a new connection needs no round trip before its first command.
            "protocol": 2,
            "driver_info": None,
            "retry": retry or Retry(ExponentialWithJitterBackoff(), 0),
        }
        try:
            return redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(self._url, **options))
        except ValueError as error:
            raise SettingsError(
                f"{self.setting} is no address of a Redis server ({error}). It looks like redis://HOST:PORT/NUMBER."
            ) from error

    def _watch(self) -> None:
        """Start the one probing thread unless it is at work."""
        with self._lock:
            if self._closing.is_set() or self._back.is_set() or (self._watcher and self._watcher.is_alive()):
                return
            self._watcher = threading.Thread(target=self._probe_until_back, name="redis-probe", daemon=True)
            self._watcher.start()

    def _probe_until_back(self) -> None:
        probe = self._client(_PROBE_SECONDS, _PROBE_SECONDS, 1)
        payer = self._client(_OWED_SECONDS, _OWED_SECONDS, 1)
        try:
            while not self._closing.wait(_PROBE_SECONDS * random.uniform(0.6, 1.0)):
                try:
                    self.run_id = str(probe.info("server").get("run_id", ""))
                    self._pay(payer)
                    self._back.set()
                    self._tell()
                    # Once more for what came to be owed while the first payment was under way.
                    self._pay(payer)
                except redis.RedisError as error:
                    if failure_of(error) is None:
                        raise
                    metrics.redis_failures.labels("probe").inc()
                    self._back.clear()
                    self._tell()
                    continue
                _log.info("redis_back", setting=self.setting, run_id=self.run_id)
                return
        finally:
            probe.connection_pool.disconnect()
            payer.connection_pool.disconnect()

    def _pay(self, client: redis.Redis) -> None:
        for pay in self._debts:
            pay(client)
