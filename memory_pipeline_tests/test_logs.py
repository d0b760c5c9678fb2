"""What log lines say, and what they must not."""

from __future__ import annotations

from memory_pipeline.logs import places_of


def test_what_is_said_of_a_foreign_error_is_its_place_and_not_its_text() -> None:
    try:
        raise ValueError("I live in Lisbon")
    except ValueError as error:
        said = places_of(error)
    assert said.startswith("ValueError in test_what_is_said_of_a_foreign_error")
    assert "Lisbon" not in said
