"""`run_failure_sensor`: a failed run is one line in the log, beside those of the API and the worker."""

import dagster as dg
import structlog

from memory_pipeline.defs.common import OWNER_TAG
from memory_pipeline.defs.sensing import ASKED_BY_TAG

log = structlog.get_logger(__name__)


@dg.run_failure_sensor(
    name="run_failure_sensor",
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Every failed run, as one structured line in the log of the daemon's code server.",
    tags=OWNER_TAG,
)
def run_failure_sensor(context: dg.RunFailureSensorContext) -> None:
    run = context.dagster_run
    log.error(
        "run_failed",
        run_id=run.run_id,
        job=run.job_name,
        asked_by=run.tags.get(ASKED_BY_TAG),
        steps=sorted({event.step_key for event in context.get_step_failure_events() if event.step_key}),
        message=context.failure_event.message,
    )
