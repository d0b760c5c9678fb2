"""A Dagster run opens its stores only where its settings agree with each other and with the processes that are up."""

from __future__ import annotations

import dagster as dg
import pytest

from memory_pipeline.defs.common import pipeline_resource
from memory_pipeline.model.errors import WiringError
from memory_pipeline.serving.wiring import wired
from memory_pipeline.settings import Settings
from memory_pipeline.stages.pipeline import Pipeline
from memory_pipeline_tests.conftest import fresh_database
from memory_pipeline_tests.local.host import Servers


def run(settings: Settings) -> dg.ExecuteInProcessResult:
    @dg.op(required_resource_keys={"pipeline"})
    def use_pipeline() -> None: ...

    @dg.job(resource_defs={"pipeline": pipeline_resource(lambda: settings)})
    def job() -> None:
        use_pipeline()

    return job.execute_in_process()


def test_a_run_on_another_database_than_a_process_that_is_up_is_refused(
    servers: Servers, migrated_template: str, settings: Settings
) -> None:
    with fresh_database(servers, migrated_template) as copy:
        moved = settings.model_copy(
            update={"postgres_app_url": copy.app_url, "postgres_pipeline_url": copy.pipeline_url}
        )
        with Pipeline(moved) as other, wired("worker", other):
            with pytest.raises(dg.DagsterResourceFunctionError) as failure:
                run(settings)
            assert isinstance(failure.value.__cause__, WiringError)
            assert copy.name in str(failure.value.__cause__)
            assert run(moved).success
    assert run(settings).success
