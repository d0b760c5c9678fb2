"""Reads the hand-written texts of the sample.

`people/<name>.txt`: a head (`Name <e-mail>`, `tenant:`, `hours:` 17-21 UTC, `share:` of small talk, 1 is usual), then
conversations: `@ 2026-06-01 19:12 | title | project` (project optional) and turns `U:` (user), `A:` (assistant).
`smalltalk/<tenant>.txt`: groups `[title] field | field`, optionally `for: person`, with the ways to ask (`U:`) and to
answer (`A:`) and the rows (`- value | value`) that fill them. `smalltalk/everyone.txt`: closing exchanges,
`user | assistant`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from memory_pipeline.model.errors import MemoryPipelineError

FOLDER = Path(__file__).parent


@dataclass
class Exchange:
    """What the user says and what the assistant answers."""

    user: str
    assistant: str


@dataclass
class Conversation:
    started_at: datetime
    title: str | None
    project: str | None
    exchanges: list[Exchange] = field(default_factory=list)


@dataclass
class Person:
    key: str
    """Name of the file without `.txt`."""
    name: str
    email: str
    tenant: str
    hours: tuple[int, int]
    """First and last hour (UTC) in which small talk starts."""
    share: float
    conversations: list[Conversation] = field(default_factory=list)


@dataclass
class SmallTalk:
    """One group of questions that are asked and answered alike."""

    title: str
    fields: list[str]
    person: str | None = None
    """Key of the only person it is for; None: for all of the tenant."""
    asks: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)


def read_people(folder: Path = FOLDER / "people") -> list[Person]:
    """Return everybody, by file name. Raises MemoryPipelineError naming the line that can't be read."""
    return [_read_person(path) for path in sorted(folder.glob("*.txt"))]


def _read_person(path: Path) -> Person:
    head, *body = path.read_text("utf-8").split("\n@ ")
    first, *settings = head.strip().splitlines()
    name, _, email = first.rstrip(">").partition(" <")
    values = dict(line.split(": ", 1) for line in settings)
    start, _, end = values["hours"].partition("-")
    person = Person(path.stem, name, email, values["tenant"], (int(start), int(end)), float(values["share"]))
    for block in body:
        person.conversations.append(_read_conversation(path, block))
    return person


def _read_conversation(path: Path, block: str) -> Conversation:
    headline, *lines = block.strip().splitlines()
    when, title, *project = (part.strip() for part in headline.split("|"))
    started_at = datetime.strptime(when, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    conversation = Conversation(started_at, title, project[0] if project else None)
    if len(lines) % 2:
        raise MemoryPipelineError(
            f"{path.name}: the conversation {headline!r} ends without an answer; add an `A:` line."
        )
    for asked, answered in zip(lines[::2], lines[1::2], strict=True):
        if not (asked.startswith("U: ") and answered.startswith("A: ")):
            raise MemoryPipelineError(
                f"{path.name}: after {headline!r}, {asked!r} and its answer aren't a `U:` and an `A:`."
            )
        conversation.exchanges.append(Exchange(asked[3:].strip(), answered[3:].strip()))
    return conversation


def read_small_talk(tenant: str, folder: Path = FOLDER / "smalltalk") -> list[SmallTalk]:
    """Return the groups of one tenant. Raises MemoryPipelineError naming the line that can't be read."""
    path = folder / f"{tenant}.txt"
    groups: list[SmallTalk] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if line.startswith("["):
            title, _, names = line[1:].partition("] ")
            groups.append(SmallTalk(title, [name.strip() for name in names.split("|")]))
        elif line.startswith("for: "):
            groups[-1].person = line[5:].strip()
        elif line.startswith("U: "):
            groups[-1].asks.append(line[3:].strip())
        elif line.startswith("A: "):
            groups[-1].answers.append(line[3:].strip())
        elif line.startswith("- "):
            values = [value.strip() for value in line[2:].split("|")]
            names_of_group = groups[-1].fields
            if len(values) != len(names_of_group):
                raise MemoryPipelineError(
                    f"{path.name}:{number}: {len(values)} values for the fields {', '.join(names_of_group)}."
                )
            groups[-1].rows.append(dict(zip(names_of_group, values, strict=True)))
        elif line:
            raise MemoryPipelineError(f"{path.name}:{number}: {line!r} is no group, ask, answer or row.")
    return groups


def read_closings(folder: Path = FOLDER / "smalltalk") -> list[Exchange]:
    """Return the exchanges that end a conversation, for any tenant."""
    lines = (folder / "everyone.txt").read_text("utf-8").splitlines()
    pairs = (line.split(" | ") for line in lines if line and not line.startswith("#"))
    return [Exchange(asked, answered) for asked, answered in pairs]
