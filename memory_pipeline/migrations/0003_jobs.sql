-- The job ledger: one row for each unit of asynchronous work, written in the transaction that needs it. Pending rows are
-- the outbox; Redis carries ids for speed and is never asked what there is to do.

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
    CHECK (state NOT IN ('failed', 'dead') OR error_text IS NOT NULL)
);
CREATE INDEX jobs_open ON memory_jobs (priority, available_at) WHERE state IN ('pending', 'failed');
CREATE INDEX jobs_leased ON memory_jobs (lease_until) WHERE state = 'processing';
CREATE INDEX jobs_dead ON memory_jobs (finished_at) WHERE state = 'dead';
CREATE INDEX jobs_open_by_subject ON memory_jobs (tenant_id, subject_id) WHERE state IN ('pending', 'processing', 'failed');
COMMENT ON TABLE memory_jobs IS 'Ledger of asynchronous work; pending and failed rows are still to be done, dead ones need a person.';
COMMENT ON COLUMN memory_jobs.subject_id IS 'What the work is about: the memory for enrich_and_embed and index, else by job_type.';
COMMENT ON COLUMN memory_jobs.attempts IS 'Counted when claimed, so that work which kills its worker comes to an end too.';
COMMENT ON COLUMN memory_jobs.lease_until IS 'By the database''s clock; after it anybody may claim the job again.';
COMMENT ON COLUMN memory_jobs.claim_token IS 'New with each claim; a finish that does not bring it is discarded.';

ALTER TABLE memory_jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_jobs FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON memory_jobs TO memory_app
    USING (tenant_id = (SELECT current_tenant_id())) WITH CHECK (tenant_id = (SELECT current_tenant_id()));
CREATE POLICY pipeline_all_tenants ON memory_jobs TO memory_pipeline USING (true) WITH CHECK (true);

-- Depth and age of the queue by type and state: of a tenant for memory_app, of all for memory_pipeline.
CREATE FUNCTION get_memory_job_stats()
    RETURNS TABLE (job_type text, state text, jobs bigint, oldest_age interval)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT j.job_type, j.state, count(*), clock_timestamp() - min(j.created_at)
    FROM memory_jobs j
    GROUP BY j.job_type, j.state
    ORDER BY j.job_type, j.state;
END;

GRANT SELECT, INSERT ON memory_jobs TO memory_app, memory_pipeline;
GRANT UPDATE, DELETE, MAINTAIN ON memory_jobs TO memory_pipeline;
