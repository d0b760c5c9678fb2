"""`generate`: synthetic conversations as JSON Lines files, one per tenant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from rich.progress import track

from memory_pipeline.commands.output import err, number, out, print_json, table
from memory_pipeline.synthetic import GeneratedMessage, GenerateSpec, generate, tenant_file_in, write_jsonl


def generate_command(
    directory: Path, messages: int, tenants: int, users: int, days: int, seed: int, start: date, *, json: bool
) -> int:
    """Write the files and say what is in each."""
    spec = GenerateSpec(messages=messages, tenants=tenants, users=users, days=days, seed=seed, start=start)
    directory.mkdir(parents=True, exist_ok=True)
    path_for = tenant_file_in(directory)
    written = write_jsonl(_shown(spec, quiet=json), path_for)
    if json:
        print_json(
            [{"tenant": slug, "path": str(path_for(slug)), "messages": count} for slug, count in written.items()]
        )
        return 0
    grid = table("Generated", "tenant", "messages", "file")
    for slug, count in written.items():
        grid.add_row(slug, number(count), str(path_for(slug)))
    out.print(grid)
    return 0


def _shown(spec: GenerateSpec, *, quiet: bool) -> Iterator[GeneratedMessage]:
    yield from track(
        generate(spec), "generating", total=spec.messages, console=err, disable=quiet or not err.is_terminal
    )
