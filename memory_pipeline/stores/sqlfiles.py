"""Reading the `.sql` files that lie beside a store. A statement is never put together from strings."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import LiteralString


@cache
def sql(package: str, name: str, **parts: str) -> LiteralString:
    """Return the text of `<package>/sql/<name>.sql` (shipped with the package, so as trusted as a literal).

    `parts` names further files: `incoming="rows"` puts rows.sql where the text has the mark `/*+ incoming */`.
    """
    text = files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    for mark, part in parts.items():
        text = text.replace(f"/*+ {mark} */", sql(package, part))
    return text
