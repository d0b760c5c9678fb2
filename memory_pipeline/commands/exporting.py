"""`export list|verify|prune`: what was exported, whether it is as it was written, old generations.

Of all servers they ask that of MEMORY_LAKE_URL alone, where the setting names one.
"""

from __future__ import annotations

import logging
from itertools import groupby
from pathlib import Path

import msgspec

from memory_pipeline.commands.output import err, number, out, print_json, print_rows
from memory_pipeline.commands.querying import exports_folder, no_export_in
from memory_pipeline.logs import configure_logs
from memory_pipeline.model.errors import ForbiddenError
from memory_pipeline.settings import load_settings
from memory_pipeline.stores.duckdb.generations import LINK
from memory_pipeline.stores.duckdb.overview import (
    PublishedFile,
    closed_folders,
    prune_exports,
    published_files,
    verify_exports,
)
from memory_pipeline.stores.lake import verify_lake
from memory_pipeline.stores.lake.published import (
    SERVED,
    PublishedGeneration,
    published_generations,
    verify_published_lake,
)


def export_list_command(*, json: bool) -> int:
    """Print every generation of every published file, and of the lake at MEMORY_LAKE_URL."""
    settings = load_settings()
    exports = exports_folder(settings)
    files = published_files(exports, settings.export_consumers)
    for folder in closed_folders(exports, settings.export_consumers):
        _say(f"not listed: {folder}, which this account may not open")
    lakes = []
    try:
        lakes = published_generations(settings.lake_url) if settings.lake_url is not None else []
    except ForbiddenError as error:
        _say(f"not listed: {error}")
    if json:
        entries = [{"kind": "duckdb"} | msgspec.to_builtins(file, enc_hook=str) for file in files]
        print_json(entries + [{"kind": "lake"} | msgspec.to_builtins(one, enc_hook=str) for one in lakes])
        return 0
    if not files and not lakes:
        out.print(str(no_export_in(exports)), markup=False, highlight=False, soft_wrap=True)
        return 0
    for consumer, generations in groupby(files, key=lambda file: file.consumer):
        listed = list(generations)
        whose = listed[0].tenant or "all tenants"
        rows_of = f"{whose}, masked" if listed[0].masked else whose
        title = f"DuckDB file for {consumer or 'everyone'}, rows of {rows_of}"
        _show(title, listed[0].path.with_name(LINK), [(file, str(file.path)) for file in listed])
    if lakes:
        served = f"{lakes[0].url.partition('/manifests/')[0]}/{SERVED}"
        _show("Parquet lake for everyone, rows of all tenants", served, [(one, one.url) for one in lakes])
    return 0


def _show(title: str, served: Path | str, generations: list[tuple[PublishedFile | PublishedGeneration, str]]) -> None:
    """Print the generations of one file or lake, newest first, each with its place; `served` is where readers look."""
    out.print(f"\n{title}\nopen {served}", markup=False, highlight=False, soft_wrap=True)
    print_rows(
        ("generation", "served", "messages", "all rows", "MiB", "as of (UTC)"),
        [
            (
                (
                    str(one.generation),
                    "yes" if one.served else "no",
                    number(one.messages),
                    number(one.rows),
                    number(round(one.bytes / 2**20, 1)),
                    f"{one.as_of:%Y-%m-%d %H:%M:%S}" if one.as_of else "",
                ),
                place,
            )
            for one, place in generations
        ],
    )


def export_verify_command(*, json: bool) -> int:
    """Read the lake, here and at MEMORY_LAKE_URL, and every published file; 1 where one is not as it was written."""
    settings = load_settings()
    configure_logs(logging.WARNING)  # on standard error: a wait for a lock is no part of the answer
    exports = exports_folder(settings)
    if settings.lake_url is None and not _may_be_there(exports.parent):
        raise no_export_in(exports)
    problems = verify_exports(exports, settings.export_consumers)
    closed = [
        f"{folder}: this account may not open it" for folder in closed_folders(exports, settings.export_consumers)
    ]
    try:
        problems = [*_verify_lake(exports.parent / "lake"), *problems]
    except ForbiddenError as error:
        closed.append(str(error))
    try:
        if settings.lake_url is not None:
            problems += verify_published_lake(exports.parent / "lake", settings.lake_url)
    except ForbiddenError as error:
        closed.append(str(error))
    for reason in closed:
        _say(f"not verified: {reason}")
    if json:
        print_json({"problems": problems})
    else:
        for problem in problems:
            err.print(f"[red]{problem}[/red]", highlight=False, soft_wrap=True)
        whole = "every file that this account may open" if closed else "every file"
        out.print(f"{whole} is as it was written" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


def _verify_lake(lake: Path) -> list[str]:
    """As `verify_lake`, without making its folder."""
    if _may_be_there(lake):
        return verify_lake(lake)
    return [f"there is no lake in {lake}: run `memory-pipeline materialize`"]


def _may_be_there(folder: Path) -> bool:
    """Return whether there is such a folder, or one on the way to it that this account may not pass."""
    try:
        return folder.is_dir()
    except PermissionError:
        return True


def export_prune_command(keep: int | None, *, json: bool) -> int:
    """Remove old generations of every file, never the one that is served."""
    settings = load_settings()
    configure_logs(logging.WARNING)
    exports = exports_folder(settings)
    if not _may_be_there(exports):
        raise no_export_in(exports)
    removed = prune_exports(exports, keep if keep is not None else settings.export_generations)
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
