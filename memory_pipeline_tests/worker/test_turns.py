"""The loop of a worker's threads goes on whatever a turn meets, but not for ever in vain."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.worker import turns
from memory_pipeline.worker.turns import MOST_IN_A_ROW, take_turns


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "UNEXPECTED_SECONDS", 0.0)


class Script:
    """A turn that meets one thing after the other, and stops after the last."""

    def __init__(self, *meets: Exception | None) -> None:
        self.meets = list(meets)
        self.stop = threading.Event()
        self.anew = 0

    def turn(self) -> None:
        meets = self.meets.pop(0)
        if not self.meets:
            self.stop.set()
        if meets is not None:
            raise meets

    def count(self) -> None:
        self.anew += 1

    def run(self) -> list[str]:
        with capture_logs() as lines:
            take_turns(self.turn, self.stop, name="a slot", away_seconds=0.0, start_anew=self.count)
        return [str(line["event"]) for line in lines]


def test_what_is_away_is_told_of_once_until_it_is_back() -> None:
    away = StoreUnavailableError("away")
    script = Script(away, away, None, away)
    assert script.run() == ["worker_waits", "worker_waits"]
    assert (script.meets, script.anew) == ([], 0)


def test_a_turn_that_fails_is_followed_by_another_that_starts_anew() -> None:
    script = Script(ValueError("secret"), None, KeyError("secret"), None)
    assert script.run() == ["worker_turn_failed", "worker_turn_failed"]
    assert (script.meets, script.anew) == ([], 2)


def test_turns_that_fail_one_after_the_other_end_the_thread() -> None:
    script = Script(*[ValueError("always")] * MOST_IN_A_ROW, None)
    with pytest.raises(ValueError, match="always"):
        script.run()
    assert script.meets == [None]


def test_a_turn_that_succeeds_in_between_counts() -> None:
    bad = [ValueError("often")] * (MOST_IN_A_ROW - 1)
    assert len(Script(*bad, None, *bad, None).run()) == len(bad) * 2
