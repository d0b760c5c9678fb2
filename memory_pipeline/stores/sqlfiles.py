"""Reading the `.sql` files that lie beside a store. A statement is never put together from strings."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import LiteralString


@cache
def sql(package: str, name: str) -> LiteralString:
    """Return the text of `<package>/sql/<name>.sql` (shipped with the package, so as trusted as a literal)."""
    return files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
