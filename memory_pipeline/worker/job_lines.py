"""What a log line about one job names: ids, its type and its attempt; never what a message says."""

from __future__ import annotations

from memory_pipeline.stores.postgres.jobs import ClaimedJob, ReclaimedJob


def fields_of(job: ClaimedJob | ReclaimedJob, *, plugin: str | None = None) -> dict[str, str | int]:
    """Return the fields by which a line is found: of a request, tenant, user, memory, or plugin where one is known."""
    ids = {
        "correlation_id": job.correlation_id,
        "tenant_id": job.tenant_id,
        "user_id": job.user_id,
        "memory_id": job.subject_id,
        "job_id": job.job_id,
        "plugin": plugin,
    }
    named = {name: str(value) for name, value in ids.items() if value is not None}
    return {**named, "job_type": job.job_type, "attempt": job.attempts}
