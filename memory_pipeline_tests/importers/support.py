"""What the importers' tests share: options with a fixed clock, and small exports made on the spot."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from memory_pipeline.importers import ImportOptions, open_importer
from memory_pipeline.model.records import IncomingMessage, Rejection

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)

TRICKY_TEXTS = [
    "שלום \u202bעולם\u202c",
    "👩\u200d👩\u200d👧\u200d👦 family",
    "e\u0301 is not é",
    "\u1e9b\u0323 in NFD and NFC ṩ",
    "🇵🇹🏳️\u200d🌈 \U0001f9d1\U0001f3fd",
    "tab\t line\r\nend\u2028para\u2029 \u0085",
    "\ufeffmark inside",
    "''; DROP TABLE messages; --",
]
"""Right-to-left, joined emoji, both normal forms, separators that end no line, SQL: all come out as they went in."""


def options(**changes: Any) -> ImportOptions:
    values: dict[str, Any] = {"partition_start": date(2022, 1, 1), "max_message_bytes": 100_000, "now": NOW}
    return ImportOptions(**(values | changes))


def read(format: str, path: Path, **changes: Any) -> tuple[list[IncomingMessage], list[Rejection]]:
    """Import `path` whole and sort out what was taken and what was not; ChatGPT needs a user, so it has one."""
    if format == "chatgpt":
        changes = {"user_email": "ana@example.com"} | changes
    taken: list[IncomingMessage] = []
    refused: list[Rejection] = []
    for record in open_importer(format, path, options(**changes)):
        if isinstance(record, IncomingMessage):
            taken.append(record)
        else:
            refused.append(record)
    return taken, refused


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def zip_folder(folder: Path, archive: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for each in sorted(folder.rglob("*")):
            if each.is_file():
                target.write(each, prefix + each.relative_to(folder).as_posix())
    return archive
