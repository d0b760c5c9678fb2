"""What to say of a statement that is not answered: what is refused, and what to do instead."""

from __future__ import annotations

import re

from memory_pipeline.model.errors import MemoryPipelineError

_READ = "Ask with SELECT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN."
_OPEN = "Open the exported file with DuckDB itself for that; `memory-pipeline export list` shows where it is."
_TABLES = "SHOW TABLES lists what there is to ask."
_FILES = (
    "reads or writes files, and a query may do neither. Ask with SELECT and keep the answer: "
    '`memory-pipeline sql "SELECT …" --format csv > answer.csv`, or json, or parquet.'
)
_OTHER_DATABASES = f"leads to another database, and a query sees the exported file alone. {_OPEN}"
_ABOUT_DUCKDB = (
    "is about DuckDB itself, and a query may read the exported tables and nothing else. SHOW TABLES, DESCRIBE messages "
    "and SUMMARIZE messages look around."
)
_SETTINGS = (
    "changes a setting, and they are locked. Write values into the query; `--timeout`, `--limit` and `--format` bound "
    "and form its answer."
)
_PREPARED = f"is for statements that are kept, and none is. Write the values into the query. {_READ}"
_WRITES = f"would change something, and the exported file is read-only: exports make it anew from Postgres. {_READ}"
_BY_KIND = {
    "LOAD": f"brings an extension of DuckDB, and none is loaded here. {_OPEN}",
    "ATTACH": _OTHER_DATABASES,
    "DETACH": _OTHER_DATABASES,
    "COPY": _FILES,
    "COPY_DATABASE": _FILES,
    "EXPORT": _FILES,
    "PRAGMA": _ABOUT_DUCKDB,
    "CALL": _ABOUT_DUCKDB,
    "SET": _SETTINGS,
    "VARIABLE_SET": _SETTINGS,
    "PREPARE": _PREPARED,
    "EXECUTE": _PREPARED,
    "TRANSACTION": f"is for changes, and the exported file is read-only. {_READ}",
}
"""By DuckDB's name for the kind of a statement; all others would write."""
_FIRST_WORD = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*([A-Za-z]+)", re.DOTALL)
_NO_TABLE = re.compile(r"Table with name (.+) does not exist!", re.DOTALL)


def not_a_read(kind: str, statement: str) -> MemoryPipelineError:
    """Return the refusal of a statement that is no read; `kind` is DuckDB's name for what it is."""
    word = _FIRST_WORD.match(statement)
    name = word[1].upper() if word else kind.replace("_", " ")
    # DuckDB takes USE for a setting, and CHECKPOINT for a call.
    why = {"USE": _OTHER_DATABASES, "CHECKPOINT": _WRITES}.get(name) or _BY_KIND.get(kind, _WRITES)
    return MemoryPipelineError(f"refused: {name} {why}")


def not_one_statement(count: int) -> MemoryPipelineError:
    """Return the refusal of a text that holds no statement, or several."""
    if not count:
        return MemoryPipelineError(
            'refused: the query is empty. Give one, such as "SELECT count(*) FROM messages"; '
            "`memory-pipeline sql --questions` lists worked questions."
        )
    return MemoryPipelineError(f"refused: these are {count} statements, and one is answered at a time. Ask each alone.")


def not_permitted(text: str) -> MemoryPipelineError:
    """Return the refusal of what DuckDB is told to refuse; `text` is what it said."""
    if "file system" in text.lower():
        return _only_tables("the query names a file or an address")
    return MemoryPipelineError(f"refused: a query may read the exported tables and nothing else ({text}). {_TABLES}")


def not_answered(text: str) -> MemoryPipelineError:
    """Return what to say of a query that DuckDB can't make sense of, or that fails; `text` is what it said."""
    missing = _NO_TABLE.search(text)
    if missing is None:
        return MemoryPipelineError(f"the query can't be answered: {text}")
    if re.search(r"[/\\]|\.(csv|json|parquet|txt)$", missing[1]):
        return _only_tables(f"{missing[1]!r} is the name of a file")
    return MemoryPipelineError(f"the query can't be answered: {text}\n{_TABLES}")


def _only_tables(what: str) -> MemoryPipelineError:
    return MemoryPipelineError(f"refused: {what}, and a query may read the exported tables and nothing else. {_TABLES}")
