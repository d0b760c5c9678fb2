-- The job ledger: one row for each unit of asynchronous work, written in the transaction that needs it. Pending rows are
-- the outbox; Redis carries ids for speed and is never asked what there is to do.

-- Every change of state leaves one partial index for another, so each index costs every job: there are no others than
-- what a statement of the queue needs. No index holds lease_until: a heartbeat changes it alone, within the page.
CREATE TABLE memory_jobs (
    tenant_id       uuid NOT NULL REFERENCES tenants,
    job_id          uuid NOT NULL DEFAULT uuidv7(),
    job_type        text NOT NULL CHECK (job_type IN ('enrich_and_embed', 'index', 'detect_relations', 'summarize',
                                                      'synthesize', 'erase', 'replay_write')),
    state           text NOT NULL DEFAULT 'pending'
                        CHECK (state IN ('pending', 'processing', 'completed', 'failed', 'dead')),
    priority        smallint NOT NULL DEFAULT 100,
    subject_id      uuid,
    user_id         uuid,
    day             date NOT NULL,
    payload         jsonb NOT NULL DEFAULT '{}',
    attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    claimed_alone   boolean NOT NULL DEFAULT false,
    available_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at    timestamptz,
    claim_token     uuid,
    claimed_by      text,
    lease_until     timestamptz,
    error_class     text,
    error_text      text,
    correlation_id  uuid NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at     timestamptz,
    PRIMARY KEY (tenant_id, job_id),
    CHECK ((state = 'processing') = (claim_token IS NOT NULL)),
    CHECK ((state = 'processing') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('completed', 'dead')) = (finished_at IS NOT NULL)),
    CHECK (state NOT IN ('failed', 'dead') OR error_class IS NOT NULL AND error_text IS NOT NULL)
) WITH (
    fillfactor = 70,
    -- Rows change three times within seconds: vacuum comes by the count of dead rows, not by a share of a large table.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX jobs_open ON memory_jobs (priority, available_at) WHERE state IN ('pending', 'failed');
CREATE INDEX jobs_unpublished ON memory_jobs (priority, available_at)
    WHERE state IN ('pending', 'failed') AND published_at IS NULL;
CREATE INDEX jobs_processing ON memory_jobs (claimed_by) WHERE state = 'processing';
CREATE INDEX jobs_dead ON memory_jobs (finished_at) WHERE state = 'dead';
CREATE INDEX jobs_completed ON memory_jobs (finished_at) WHERE state = 'completed';
COMMENT ON TABLE memory_jobs IS 'Ledger of asynchronous work; pending and failed rows are still to be done, dead ones need a person.';
COMMENT ON COLUMN memory_jobs.priority IS 'The lower goes first.';
COMMENT ON COLUMN memory_jobs.subject_id IS 'What the work is about: the memory for enrich_and_embed and index, else by job_type.';
COMMENT ON COLUMN memory_jobs.attempts IS 'Counted when claimed, so that work which kills its worker comes to an end too.';
COMMENT ON COLUMN memory_jobs.claimed_alone IS 'A claim of it was never answered: it may end its worker, so no other job is claimed with it.';
COMMENT ON COLUMN memory_jobs.published_at IS 'When its id was put into the Redis stream; NULL while it has yet to be.';
COMMENT ON COLUMN memory_jobs.lease_until IS 'By the database''s clock; after it the claim is taken away.';
COMMENT ON COLUMN memory_jobs.claim_token IS 'New with each claim; a finish that does not bring it is discarded.';
COMMENT ON COLUMN memory_jobs.error_class IS 'Of the last attempt that failed; a job completed later keeps it.';

ALTER TABLE memory_jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_jobs FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON memory_jobs TO memory_app
    USING (tenant_id = (SELECT current_tenant_id())) WITH CHECK (tenant_id = (SELECT current_tenant_id()));
CREATE POLICY pipeline_all_tenants ON memory_jobs TO memory_pipeline USING (true) WITH CHECK (true);

-- Commits with a NOTIFY wait for each other, so one is sent only if somebody sleeps. Who goes to sleep holds the lock
-- below exclusively; who adds jobs asks for it shared, and where he gets it nobody sleeps. He keeps it until his jobs can
-- be seen, and nobody can go to sleep before that: no job is added unheard. See stores/postgres/job_signal.py.
CREATE FUNCTION wake_job_waiters() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(1785684595) THEN  -- "jobs" in ASCII
        PERFORM pg_notify('memory_jobs', '');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_wake_waiters AFTER INSERT ON memory_jobs FOR EACH STATEMENT EXECUTE FUNCTION wake_job_waiters();

-- Depth of the queue by type and state, and since when the oldest waits (nothing completed or dead does): of a tenant for
-- memory_app, of all for memory_pipeline. One branch for each partial index. Completed ones are those of the last ten
-- minutes: there are millions of the others, and this is asked every few seconds.
CREATE FUNCTION get_memory_job_stats()
    RETURNS TABLE (job_type text, state text, jobs bigint, oldest_age interval)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT j.job_type, j.state, count(*), clock_timestamp() - min(j.created_at)
    FROM memory_jobs j
    WHERE j.state IN ('pending', 'failed')
    GROUP BY j.job_type, j.state
    UNION ALL
    SELECT j.job_type, 'processing', count(*), clock_timestamp() - min(j.created_at)
    FROM memory_jobs j
    WHERE j.state = 'processing'
    GROUP BY j.job_type
    UNION ALL
    SELECT j.job_type, 'dead', count(*), NULL::interval
    FROM memory_jobs j
    WHERE j.state = 'dead'
    GROUP BY j.job_type
    UNION ALL
    SELECT j.job_type, 'completed', count(*), NULL::interval
    FROM memory_jobs j
    WHERE j.state = 'completed' AND j.finished_at > clock_timestamp() - interval '10 minutes'
    GROUP BY j.job_type
    ORDER BY 1, 2;
END;

GRANT SELECT, INSERT ON memory_jobs TO memory_app, memory_pipeline;
GRANT UPDATE, DELETE, MAINTAIN ON memory_jobs TO memory_pipeline;
-- With a conversation go the buffered writes to it that were refused: they hold what was said.
GRANT DELETE ON memory_jobs TO memory_app;

-- Workers that are there: each renews its row every few seconds, and removes it when it stops.
CREATE TABLE worker_heartbeats (
    worker   text PRIMARY KEY,
    seen_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE worker_heartbeats IS 'Workers and when they were last seen, by the database''s clock.';
GRANT SELECT, INSERT, UPDATE, DELETE ON worker_heartbeats TO memory_pipeline;
