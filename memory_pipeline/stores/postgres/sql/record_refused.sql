-- A buffered request that was refused when it was replayed: kept whole as a dead job, with its event, once.
WITH refused AS (
    INSERT INTO memory_jobs (tenant_id, job_id, job_type, state, user_id, day, payload, attempts, correlation_id,
                             finished_at, error_class, error_text)
    VALUES (%(tenant_id)s, %(entry_id)s, 'replay_write', 'dead', %(user_id)s, %(day)s, %(payload)s, 1,
            %(correlation_id)s, clock_timestamp(), %(error_class)s, %(error_text)s)
    ON CONFLICT (tenant_id, job_id) DO NOTHING
    RETURNING tenant_id, job_id, correlation_id, error_class
)
INSERT INTO events (tenant_id, kind, actor, subject_id, correlation_id, detail)
SELECT tenant_id, 'buffered_write_refused', 'system:replay', job_id, correlation_id,
       jsonb_build_object('error_class', error_class, 'messages', %(messages)s::bigint)
FROM refused
