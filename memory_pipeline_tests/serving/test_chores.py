"""What chores say when they fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, MutableMapping
from typing import Any

from structlog.testing import capture_logs

from memory_pipeline.model.errors import StoreUnavailableError
from memory_pipeline.serving.chores import Chores


def lines_of(chore: Callable[[], object]) -> list[MutableMapping[str, Any]]:
    """What is logged while a chore is done three times."""
    left = [3]
    done = threading.Event()

    def counted() -> None:
        left[0] -= 1
        if left[0] < 0:
            done.set()
            return
        chore()

    with capture_logs() as lines, Chores({"sweep": counted}, 0.01):
        assert done.wait(5)
    return [line for line in lines if line["event"] == "chore_failed"]


def test_a_chore_that_fails_is_told_once_with_the_place_of_a_foreign_error_and_not_its_text() -> None:
    def quotes_a_row() -> None:
        raise ValueError("I live in Lisbon")

    (line,) = lines_of(quotes_a_row)
    assert (line["chore"], line["error"]) == ("sweep", "ValueError")
    assert line["message"].startswith("ValueError in quotes_a_row")
    assert "Lisbon" not in str(line)


def test_of_an_error_of_ours_the_whole_sentence_is_told() -> None:
    def is_away() -> None:
        raise StoreUnavailableError("Postgres can't be reached: start it.")

    (line,) = lines_of(is_away)
    assert line["message"] == "Postgres can't be reached: start it."
