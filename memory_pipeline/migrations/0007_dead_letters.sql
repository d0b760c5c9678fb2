-- Everything that failed for good has a dead job, and no job acts for another tenant than its own.

-- Both tables, before anything is changed. Others hold locks on them in either order, so this never waits for one while it
-- keeps the other for longer than half a second: less than Postgres leaves a deadlock, so nobody is ended by this.
DO $$
BEGIN
    FOR tried IN 1..20 LOOP
        BEGIN
            SET LOCAL lock_timeout = '500ms';
            LOCK TABLE memories, memory_jobs IN ACCESS EXCLUSIVE MODE;
            SET LOCAL lock_timeout TO DEFAULT;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.5);
        END;
    END LOOP;
    RAISE lock_not_available USING MESSAGE =
        'memories and memory_jobs are in use all the time. Stop the workers, Dagster and the API, and migrate again';
END $$;

-- A request that was buffered is written by the worker, who sees all tenants, as its payload says: so that names the row's
-- own tenant and id. (NOT VALID: rows of before are looked at by the worker, as what is packed in base64 is.)
ALTER TABLE memory_jobs ADD CONSTRAINT memory_jobs_payload_own CHECK (
    job_type <> 'replay_write'
    OR (payload ->> 'tenant_id' = tenant_id::text AND payload ->> 'entry_id' = job_id::text) IS NOT FALSE
) NOT VALID;

-- By what a dead job is about: whether one speaks for a memory that failed. Only what dies pays for it.
CREATE INDEX jobs_dead_subject ON memory_jobs (tenant_id, subject_id) WHERE state = 'dead';

-- Memories that failed where no job was: imports and backfills write none. (Force is off for memory_owner, who migrates,
-- and on again before anyone else sees the tables.)
ALTER TABLE memories NO FORCE ROW LEVEL SECURITY;
ALTER TABLE memory_jobs NO FORCE ROW LEVEL SECURITY;
INSERT INTO memory_jobs (tenant_id, job_type, state, subject_id, user_id, day, correlation_id, finished_at, error_class,
                         error_text)
SELECT DISTINCT ON (f.tenant_id, s.memory_id)
       f.tenant_id, 'enrich_and_embed', 'dead', s.memory_id, s.user_id, s.day, gen_random_uuid(), f.updated_at,
       coalesce(f.failure_class, 'Failed'), f.failure_text
FROM memories f
LEFT JOIN memories e ON f.kind = 'fact' AND e.tenant_id = f.tenant_id AND e.kind = 'episode'
    AND e.source_message_ids[1] = f.source_message_ids[1]
CROSS JOIN LATERAL (SELECT coalesce(e.memory_id, f.memory_id) AS memory_id, coalesce(e.user_id, f.user_id) AS user_id,
                           coalesce(e.day, f.day) AS day) s
WHERE f.status = 'failed'
  AND NOT EXISTS (SELECT FROM memory_jobs j
                  WHERE j.tenant_id = f.tenant_id AND j.subject_id IN (s.memory_id, f.memory_id)
                    AND j.job_type IN ('enrich_and_embed', 'index') AND j.state <> 'completed')
ORDER BY f.tenant_id, s.memory_id, f.updated_at DESC;
-- Nobody could renew a lease meanwhile: one that held when this began is left 30 seconds to be renewed in.
-- (What replays buffered requests is left out for the constraint above, which may not hold for it.)
UPDATE memory_jobs SET lease_until = clock_timestamp() + interval '30 seconds'
WHERE state = 'processing' AND job_type <> 'replay_write'
  AND lease_until BETWEEN transaction_timestamp() AND clock_timestamp() + interval '30 seconds';
ALTER TABLE memories FORCE ROW LEVEL SECURITY;
ALTER TABLE memory_jobs FORCE ROW LEVEL SECURITY;
