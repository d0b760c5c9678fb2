"""`export list|verify|prune`: what was exported, whether it is as it was written, old generations.

Of all servers they ask that of MEMORY_LAKE_URL alone, where the setting names one.
"""

from __future__ import annotations

import logging

import msgspec

from memory_pipeline.commands.output import err, number, out, print_json, table
from memory_pipeline.commands.querying import exports_folder
from memory_pipeline.logs import configure_logs
from memory_pipeline.model.errors import ForbiddenError
from memory_pipeline.settings import load_settings
from memory_pipeline.stores.duckdb.overview import closed_folders, prune_exports, published_files, verify_exports
from memory_pipeline.stores.lake import verify_lake
from memory_pipeline.stores.lake.published import published_generations, verify_published_lake


def export_list_command(*, json: bool) -> int:
    """Print every generation of every published file, and of the lake at MEMORY_LAKE_URL."""
    settings = load_settings()
    exports = exports_folder(settings)
    files = published_files(exports, settings.export_consumers)
    for folder in closed_folders(exports, settings.export_consumers):
        _say(f"not listed: {folder}, which this account may not open")
    lakes = published_generations(settings.lake_url) if settings.lake_url is not None else []
    if json:
        entries = [{"kind": "duckdb"} | msgspec.to_builtins(file, enc_hook=str) for file in files]
        print_json(entries + [{"kind": "lake"} | msgspec.to_builtins(one, enc_hook=str) for one in lakes])
        return 0
    grid = table("Exports, newest first", "for", "file", "served", "rows of", "messages", "MiB", "as of (UTC)")
    for file in files:
        whose = file.tenant or "all tenants"
        grid.add_row(
            file.consumer or "everyone",
            file.path.name,
            "yes" if file.served else "",
            f"{whose}, masked" if file.masked else whose,
            number(file.messages),
            number(round(file.bytes / 2**20, 1)),
            f"{file.as_of:%Y-%m-%d %H:%M:%S}" if file.as_of else "",
        )
    for one in lakes:
        grid.add_row(
            "everyone",
            one.url,
            "yes" if one.served else "",
            "all tenants",
            number(one.messages),
            number(round(one.bytes / 2**20, 1)),
            f"{one.as_of:%Y-%m-%d %H:%M:%S}" if one.as_of else "",
        )
    out.print(grid)
    return 0


def export_verify_command(*, json: bool) -> int:
    """Read the lake, here and at MEMORY_LAKE_URL, and every published file; 1 where one is not as it was written."""
    settings = load_settings()
    configure_logs(logging.WARNING)  # on standard error: a wait for a lock is no part of the answer
    exports = exports_folder(settings)
    problems = verify_exports(exports, settings.export_consumers)
    closed = [
        f"{folder}: this account may not open it" for folder in closed_folders(exports, settings.export_consumers)
    ]
    try:
        problems = [*verify_lake(exports.parent / "lake"), *problems]
    except ForbiddenError as error:
        closed.append(str(error))
    for reason in closed:
        _say(f"not verified: {reason}")
    if settings.lake_url is not None:
        problems += verify_published_lake(exports.parent / "lake", settings.lake_url)
    if json:
        print_json({"problems": problems})
    else:
        for problem in problems:
            err.print(f"[red]{problem}[/red]", highlight=False, soft_wrap=True)
        whole = "every file that this account may open" if closed else "every file"
        out.print(f"{whole} is as it was written" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


def export_prune_command(keep: int | None, *, json: bool) -> int:
    """Remove old generations of every file, never the one that is served."""
    settings = load_settings()
    configure_logs(logging.WARNING)
    removed = prune_exports(exports_folder(settings), keep if keep is not None else settings.export_generations)
    if json:
        print_json({"removed": [str(path) for path in removed]})
        return 0
    for path in removed:
        out.print(f"removed {path}", highlight=False, soft_wrap=True)
    if not removed:
        out.print("nothing to remove")
    return 0


def _say(line: str) -> None:
    """Beside the answer: what a program reads stays as it is."""
    err.print(line, highlight=False, markup=False, soft_wrap=True)
