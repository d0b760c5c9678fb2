"""Worked questions: one `.sql` file each in `questions/`, to be asked of any published file as it is.

    -- How do the tenants compare?            the question
    --
    -- What to know about the answer.         a sentence or more of context
    SELECT …                                  the query

`07_….sql` is question 7. They are part of the analyst's guide, of the tests and of the benchmark.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

from memory_pipeline.model.errors import NotFoundError
from memory_pipeline.stores.duckdb.marts import PACKAGE


class Question(NamedTuple):
    """One worked question, by its file."""

    number: int
    question: str
    context: str
    statement: str


@cache
def questions() -> list[Question]:
    """Return all worked questions by their numbers, which begin with 1."""
    folder = files(PACKAGE).joinpath("questions")
    return [
        _parse(entry.name, entry.read_text("utf-8")) for entry in sorted(folder.iterdir(), key=lambda one: one.name)
    ]


def worked_question(number: int) -> Question:
    """Return one worked question. Raises NotFoundError for a number that none has."""
    for question in questions():
        if question.number == number:
            return question
    raise NotFoundError(f"there is no question {number}: they go from 1 to {len(questions())}.")


def _parse(file_name: str, text: str) -> Question:
    lines = text.splitlines()
    end = next(at for at, line in enumerate(lines) if not line.startswith("--"))
    question, _, context = "\n".join(line.removeprefix("--").strip() for line in lines[:end]).partition("\n\n")
    if not question or not context:
        raise ValueError(f"{file_name} must begin with a question, an empty comment line, and its context")
    return Question(
        number=int(file_name.partition("_")[0]),
        question=" ".join(question.split()),
        context=" ".join(context.split()),
        statement="\n".join(lines[end:]).strip(),
    )
