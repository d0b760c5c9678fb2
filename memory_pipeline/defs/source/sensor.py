"""`new_tenants_sensor`: a tenant that was added reaches the lake's dimensions within minutes."""

import dagster as dg

from memory_pipeline.defs.analytics.assets import lake_dimensions
from memory_pipeline.defs.common import OWNER_TAG
from memory_pipeline.defs.sensing import ASKED_BY_TAG, Answer, opened_database, skipping_where_away
from memory_pipeline.providers.registry import plugin_names
from memory_pipeline.settings import load_settings
from memory_pipeline.stores.postgres.tenants import tenants_seen, unserved_tenants

NAME = "new_tenants_sensor"
_NAMED = 10

tenants_job = dg.define_asset_job(
    "tenants_job",
    selection=dg.AssetSelection.assets(lake_dimensions).without_checks(),
    description="Tenants, users and conversations into the lake; the next hourly export publishes them.",
    tags=OWNER_TAG,
)


@dg.sensor(
    name=NAME,
    job=tenants_job,
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Every five minutes: whether tenants were added; then the lake's dimensions are written anew. Says which "
        "tenants lack a plugin, so that their messages wait. Nothing else has to be made for a tenant: Postgres gives "
        "it the default plugins, the indexer its collection."
    ),
    tags=OWNER_TAG,
)
@skipping_where_away
def new_tenants_sensor(context: dg.SensorEvaluationContext) -> Answer:
    settings = load_settings()
    plugins = plugin_names(settings)
    with opened_database(settings) as database, database.transaction() as connection:
        seen = tenants_seen(connection)
        unserved = unserved_tenants(connection, [plugins.enricher, plugins.embedder], _NAMED)
    for slug, lacks in unserved.items():
        context.log.warning(f"Messages of tenant {slug} wait: it has not installed {', '.join(lacks)}.")
    # How many there are changes with each new one, in whatever order they were committed.
    cursor = f"{seen.tenants} tenants, the newest of {seen.newest.isoformat() if seen.newest else 'never'}"
    if context.cursor in (None, cursor):
        return dg.SensorResult(cursor=cursor, skip_reason=f"There are {cursor}; none is new.")
    request = dg.RunRequest(run_key=cursor, tags={ASKED_BY_TAG: NAME, "memory_pipeline/tenants": str(seen.tenants)})
    return dg.SensorResult(run_requests=[request], cursor=cursor)
