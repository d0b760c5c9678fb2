"""A lint: SQL reaches an engine as a literal, a shipped `.sql` file, or composed of quoted parts; never as built text.

ruff's S608 looks for strings that look like SQL; this looks at what is handed to a driver, whatever it looks like.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import memory_pipeline

ROOT = Path(memory_pipeline.__file__).parent
CALLS = {"execute", "executemany", "executescript", "copy", "stream", "sql"}
"""Methods whose first argument is SQL, of psycopg, DuckDB and ADBC; in a module that uses DuckDB `query` too."""
QUOTED = {"Identifier", "Literal", "Placeholder"}
"""What quotes a value within a composition of psycopg.sql."""

ALLOWED = {
    ("stores/postgres/migrate.py", "statements"): "the text of a shipped migration",
    ("stores/duckdb/build.py", "mart.statement"): "a shipped .sql file",
    ("stores/postgres/export.py", "statement"): "constants of the module, and the id of a snapshot that Postgres gave",
    ("stores/duckdb/build.py", "mart.query"): "the SELECT of a shipped .sql file",
    ("stores/postgres/export.py", "statement.encode()"): "constants of the module, and the id of a snapshot",
    ("stores/duckdb/query.py", "statement"): "the analyst's own, on a read-only file with external access off",
    ("defs/event_log.py", "insert"): "SQLAlchemy's own statement object",
}
"""What is none of the accepted forms and yet nobody's text put together, by file and argument, with the reason."""


class Finding(NamedTuple):
    line: int
    argument: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.argument}"


class Module:
    """One parsed module, with what its names stand for."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        self.parents = {child: parent for parent in ast.walk(self.tree) for child in ast.iter_child_nodes(parent)}
        self.imported: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                for name in node.names:
                    self.imported[name.asname or name.name] = prefix + name.name
        self.calls = CALLS | {"query"} if "duckdb" in self.imported.values() else CALLS

    def findings(self) -> Iterator[Finding]:
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            first = node.args[0]
            raw = self.name_of(node.func) == "psycopg.sql.SQL"
            if raw and not _is_text(first):
                yield Finding(node.lineno, ast.unparse(first))
            is_statement = isinstance(node.func, ast.Attribute) and node.func.attr in self.calls
            if is_statement and not raw and not self.is_of_a_module(node.func) and not self.is_safe(first):
                yield Finding(node.lineno, ast.unparse(first))

    def name_of(self, node: ast.expr) -> str:
        """The full name that an expression like `compose.SQL` stands for, as far as imports tell."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self.name_of(node.value)}.{node.attr}"
        return ""

    def is_of_a_module(self, function: ast.expr) -> bool:
        """`shutil.copy(…)` and the like: a module's function, not an engine's method."""
        return (
            isinstance(function, ast.Attribute)
            and isinstance(function.value, ast.Name)
            and function.value.id in self.imported
        )

    def is_safe(self, node: ast.expr) -> bool:
        """Whether an expression can only be SQL that was written down, whole or in parts with quoting between."""
        if isinstance(node, ast.Name):
            return self.is_safe_name(node)
        if isinstance(node, ast.IfExp):
            return self.is_safe(node.body) and self.is_safe(node.orelse)
        if isinstance(node, ast.Call) and self.name_of(node.func) == "memory_pipeline.stores.sqlfiles.sql":
            return True
        return _is_text(node) or self.is_composed(node)

    def is_composed(self, node: ast.expr) -> bool:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self.is_composed(node.left) and self.is_composed(node.right)
        if isinstance(node, ast.Name):
            values = self.bindings(node)
            return bool(values) and all(value is not None and self.is_composed(value) for value in values)
        if not isinstance(node, ast.Call):
            return False
        name = self.name_of(node.func)
        if name == "psycopg.sql.SQL":
            return _is_text(node.args[0])
        if name in {f"psycopg.sql.{kind}" for kind in QUOTED}:
            return True
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "join"):
            parts = [*node.args, *(keyword.value for keyword in node.keywords)]
            return self.is_composed(node.func.value) and all(self.is_part(part) for part in parts)
        return False

    def is_part(self, node: ast.expr) -> bool:
        """One part of a composition, or many of them."""
        if isinstance(node, ast.GeneratorExp | ast.ListComp):
            return self.is_composed(node.elt)
        if isinstance(node, ast.List | ast.Tuple):
            return all(self.is_composed(element) for element in node.elts)
        return self.is_composed(node)

    def is_safe_name(self, node: ast.Name) -> bool:
        values = self.bindings(node)
        return bool(values) and all(value is not None and self.is_safe(value) for value in values)

    def bindings(self, name: ast.Name) -> list[ast.expr | None]:
        """All that a name is given in the innermost function, or else module, that gives it anything.

        None stands for what can't be told: a parameter, an import, a `with … as`, an augmented assignment.
        """
        scope: ast.AST = name
        while scope is not self.tree:
            scope = self.parents[scope]
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Module):
                found = list(self.bound_in(scope, name.id))
                if found:
                    return found
        return []

    def bound_in(self, scope: ast.AST, name: str) -> Iterator[ast.expr | None]:
        for node in ast.walk(scope):
            if self.scope_of(node) is not scope:
                continue
            if isinstance(node, ast.arg) and node.arg == name:
                yield from self.passed(scope, name)
            elif isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
                yield from self.given(node)

    def passed(self, function: ast.AST, parameter: str) -> Iterator[ast.expr | None]:
        """What all calls pass for a parameter; None where another module may call, or a call is not plain."""
        places = [argument.arg for argument in function.args.args] if isinstance(function, ast.FunctionDef) else []
        if not isinstance(function, ast.FunctionDef) or not function.name.startswith("_") or parameter not in places:
            yield None
            return
        place = places.index(parameter)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and node.id == function.name:
                call = self.parents[node]
                plain = isinstance(call, ast.Call) and call.func is node and self.scope_of(call) is not function
                if plain and isinstance(call, ast.Call) and len(call.args) > place:
                    yield call.args[place]
                else:
                    yield None
            elif isinstance(node, ast.Attribute) and node.attr == function.name:
                yield None

    def scope_of(self, node: ast.AST) -> ast.AST:
        scope = node
        while scope is not self.tree:
            scope = self.parents[scope]
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Module):
                return scope
        return scope

    def given(self, target: ast.Name) -> Iterator[ast.expr | None]:
        parent = self.parents[target]
        if isinstance(parent, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            yield parent.value
        elif isinstance(parent, ast.For | ast.comprehension) and parent.target is target:
            yield from self.elements(parent.iter)
        else:
            yield None

    def elements(self, node: ast.expr) -> Iterator[ast.expr | None]:
        """What a loop over an expression goes through, where that is written down."""
        if isinstance(node, ast.Tuple | ast.List):
            yield from node.elts
        elif isinstance(node, ast.Name):
            for value in self.bindings(node):
                if value is None:
                    yield None
                else:
                    yield from self.elements(value)
        else:
            yield None


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def findings(source: str) -> list[Finding]:
    return list(Module(source).findings())


def test_no_sql_is_built_from_strings() -> None:
    found = {
        (str(path.relative_to(ROOT)), finding.argument): f"{path.relative_to(ROOT)}, {finding}"
        for path in ROOT.rglob("*.py")
        for finding in findings(path.read_text(encoding="utf-8"))
    }
    built = [text for place, text in found.items() if place not in ALLOWED]
    assert not built, (
        "SQL that is neither a literal, nor sql(PACKAGE, name), nor composed by psycopg.sql of literals and quoted "
        "parts:\n" + "\n".join(built)
    )
    assert ALLOWED.keys() <= found.keys(), "an exception that nothing needs any more"


PREAMBLE = """
from psycopg import sql as compose
from psycopg.sql import SQL, Identifier
from memory_pipeline.stores.sqlfiles import sql
import shutil
PACKAGE = "memory_pipeline.stores.postgres"
_QUERY = "SELECT 1"
_SESSION = ("SET a = 1", "SET b = 2")
_BUILT = "SELECT " + PACKAGE
def work(connection, cursor, table, name, columns):
"""


@pytest.mark.parametrize(
    "code",
    [
        "connection.execute(f'SELECT * FROM {table}')",
        "connection.execute('SELECT * FROM ' + table)",
        "connection.execute('SELECT * FROM ' 'users WHERE name = ' + repr(name))",
        "connection.execute('SELECT * FROM %s' % table)",
        "connection.execute('SELECT * FROM {}'.format(table))",
        "connection.execute(' '.join(['SELECT * FROM', table]))",
        "connection.execute('SELECT * FROM t'.replace('t', table))",
        "connection.execute(table)",
        "connection.execute(_BUILT)",
        "connection.execute(b'SELECT ' + table.encode())",
        "connection.execute(str(table))",
        "connection.cursor().executemany(f'INSERT INTO {table} VALUES (%s)', [])",
        "cursor.copy(f'COPY {table} FROM STDIN')",
        "cursor.stream('SELECT ' + table)",
        "connection.execute(sql(PACKAGE, 'one') + f' WHERE {name}')",
        "connection.execute(sql(PACKAGE, 'one').replace('t', table))",
        "_private(connection, name)\n\ndef _private(connection, statement):\n    connection.execute(statement)",
        "_private(*columns)\n\ndef _private(connection, statement):\n    connection.execute(statement)",
        "map(_private, columns)\n\ndef _private(statement):\n    cursor.execute(statement)",
        "_private(a, text=name)\n\ndef _private(a, text):\n    a.execute(text)",
        "public('SELECT 1')\n\ndef public(statement):\n    cursor.execute(statement)",
        "import duckdb\n    duckdb.connect().query(f'SELECT {name}')",
        "connection.sql(f'SELECT * FROM {table}')",
        "query = 'SELECT 1'\n    query += ' WHERE ' + name\n    connection.execute(query)",
        "query = 'SELECT 1'\n    if name:\n        query = f'SELECT {name}'\n    connection.execute(query)",
        "query = f'SELECT {name}'\n    connection.execute(query)",
        "connection.execute(query := 'SELECT ' + name)",
        "for statement in ('SELECT 1', f'SELECT {name}'):\n        connection.execute(statement)",
        "for statement in columns:\n        connection.execute(statement)",
        "connection.execute(_QUERY if name else 'SELECT ' + name)",
        "connection.execute((lambda: 'SELECT ' + name)())",
        "connection.execute(SQL(name))",
        "connection.execute(compose.SQL(f'SELECT {name}'))",
        "connection.execute(compose.SQL('SELECT {}').format(SQL(name)))",
        "connection.execute(compose.SQL('SELECT {}').format(name))",
        "connection.execute(compose.SQL('SELECT {x}').format(x=name))",
        "connection.execute(SQL(', ').join(columns))",
        "connection.execute(SQL(', ').join(SQL(column) for column in columns))",
        "connection.execute(SQL('SELECT 1') + SQL(' WHERE ' + name))",
        "part = SQL(name)\n    return part",
        "connection.execute(SQL(name).format(Identifier(table)))",
        "connection.execute(compose.Composed([name]))",
        "connection.execute(connection.execute('SELECT query FROM saved').fetchone()[0])",
    ],
)
def test_built_sql_is_found(code: str) -> None:
    assert findings(f"{PREAMBLE}    {code}\n")


@pytest.mark.parametrize(
    "code",
    [
        "connection.execute('SELECT 1')",
        "connection.execute('SELECT 1' ' WHERE true', [name])",
        "connection.execute(_QUERY, [name])",
        "connection.execute(sql(PACKAGE, 'messages'), {'name': name})",
        "connection.execute(sql(PACKAGE, f'export_{table}'))",
        "query = sql(PACKAGE, 'one') if name else sql(PACKAGE, 'two')\n    connection.execute(query)",
        "for statement in _SESSION:\n        cursor.execute(statement)",
        "for statement in ['SELECT 1', 'SELECT 2']:\n        cursor.execute(statement)",
        "cursor.copy('COPY incoming FROM STDIN')",
        "connection.execute(SQL('ANALYZE {}').format(Identifier('memory', table)))",
        "connection.execute(compose.SQL('SELECT {x}').format(x=compose.Literal(name)))",
        "connection.execute(SQL('SELECT {} FROM t').format(SQL(', ').join(Identifier(c) for c in columns)))",
        "connection.execute(SQL(', ').join([Identifier('a'), compose.Placeholder()]))",
        "query = SQL('SELECT 1')\n    connection.execute(query + SQL(' WHERE {}').format(compose.Literal(name)))",
        "columns.copy()",
        "connection.pipeline().execute()",
        "shutil.copy(table, name)",
        "_private(connection, 'SELECT 1')\n\ndef _private(connection, statement):\n    connection.execute(statement)",
        "connection.query(name)",  # not an engine that takes SQL
        "return f'SELECT {name} stars'",
    ],
)
def test_sql_that_was_written_down_is_none(code: str) -> None:
    assert findings(f"{PREAMBLE}    {code}\n") == []
