"""The external asset `messages`."""

import dagster as dg

from memory_pipeline.defs.common import OWNERS, PipelineResource
from memory_pipeline.stores.postgres.messages import message_days

MESSAGES = dg.AssetSpec(
    "messages",
    group_name="source",
    description=(
        "Raw chat turns in Postgres, append-only: the record that everything else is derived from. "
        "Written by the API and the importers; an observation counts them and notes how far they reach."
    ),
    kinds={"postgres", "table"},
    owners=OWNERS,
    code_version="1",
    metadata={"dagster/table_name": "memory.messages"},
)


@dg.multi_observable_source_asset(specs=[MESSAGES], name="observe_messages", description="Counts messages by day.")  # type: ignore[untyped-decorator]
def messages(pipeline: PipelineResource) -> dg.ObserveResult:
    with pipeline.database.transaction() as connection:
        days = message_days(connection)
    total = sum(day.messages for day in days)
    watermark = days[-1].day.isoformat() if days else "none"
    newest = "\n".join(f"| {day.day} | {day.messages:,} | {day.tenants} |" for day in days[-14:])
    return dg.ObserveResult(
        data_version=dg.DataVersion(f"{total}@{watermark}"),
        metadata={
            "dagster/row_count": total,
            "days": len(days),
            "watermark": watermark,
            "newest_days": dg.MetadataValue.md(f"| day | messages | tenants |\n|---|---|---|\n{newest}"),
        },
    )
