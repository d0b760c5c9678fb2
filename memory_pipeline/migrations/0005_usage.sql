-- What recall was asked for and how it went, and what calls of models cost: what analysts read of both.

CREATE TABLE memory_access_log (
    tenant_id       uuid NOT NULL,
    access_id       uuid NOT NULL DEFAULT uuidv7(),
    user_id         uuid NOT NULL,
    accessed_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    correlation_id  uuid NOT NULL,
    what            text NOT NULL CHECK (what IN ('recall')),
    channel         text NOT NULL CHECK (channel ~ '^[a-z][a-z_]{0,30}$'),
    query_hash      bytea NOT NULL CHECK (octet_length(query_hash) = 32),
    memory_ids      uuid[] NOT NULL,
    memories        integer NOT NULL GENERATED ALWAYS AS (cardinality(memory_ids)) STORED,
    turns           integer NOT NULL CHECK (turns >= 0),
    degraded_parts  text[] NOT NULL DEFAULT '{}',
    degraded        boolean NOT NULL GENERATED ALWAYS AS (cardinality(degraded_parts) > 0) STORED,
    from_cache      boolean NOT NULL,
    milliseconds    double precision NOT NULL CHECK (milliseconds >= 0),
    PRIMARY KEY (tenant_id, access_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users ON DELETE CASCADE
);
CREATE INDEX memory_access_log_day ON memory_access_log (accessed_at);
CREATE INDEX memory_access_log_user ON memory_access_log (tenant_id, user_id);
COMMENT ON TABLE memory_access_log IS 'One row for each answer to a user: counts, ids and times, never what was asked or answered.';
COMMENT ON COLUMN memory_access_log.channel IS 'Through what it was asked: cli, api.';
COMMENT ON COLUMN memory_access_log.query_hash IS 'SHA-256 over the user and the query: equal for a question that the same user asks again. Who guesses a question can confirm it.';
COMMENT ON COLUMN memory_access_log.memory_ids IS 'The memories shown, best first; some may have been deleted since.';
COMMENT ON COLUMN memory_access_log.degraded_parts IS 'What the answer had to do without: embedder, chroma.';
COMMENT ON COLUMN memory_access_log.milliseconds IS 'From the question to the answer, without the writing of this row.';

CREATE TABLE llm_usage (
    tenant_id          uuid NOT NULL REFERENCES tenants,
    usage_id           uuid NOT NULL DEFAULT uuidv7(),
    used_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    correlation_id     uuid NOT NULL,
    plugin             text NOT NULL,
    model              text NOT NULL,
    what               text NOT NULL CHECK (what IN ('embedding', 'query_embedding')),
    requests           integer NOT NULL CHECK (requests >= 0),
    texts              integer NOT NULL CHECK (texts >= 0),
    prompt_tokens      bigint CHECK (prompt_tokens >= 0),
    completion_tokens  bigint NOT NULL DEFAULT 0 CHECK (completion_tokens >= 0),
    cost_usd           numeric(18, 10) CHECK (cost_usd >= 0),
    PRIMARY KEY (tenant_id, usage_id)
);
CREATE INDEX llm_usage_day ON llm_usage (used_at);
COMMENT ON TABLE llm_usage IS 'Calls of models that cost money: one row per tenant and batch.';
COMMENT ON COLUMN llm_usage.correlation_id IS 'The same for all rows of one run of a stage; for a query, that of memory_access_log.';
COMMENT ON COLUMN llm_usage.requests IS 'Requests that were answered. Those that several tenants share are split as tokens are, so that sums over tenants are right; a small share may be 0.';
COMMENT ON COLUMN llm_usage.prompt_tokens IS 'As the endpoint counted them, split over the tenants of a batch by the bytes of their texts; NULL where it did not say.';
COMMENT ON COLUMN llm_usage.cost_usd IS 'US dollars; NULL where no price is set or the endpoint did not count.';

ALTER TABLE memory_access_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_access_log FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON memory_access_log TO memory_app
    USING (tenant_id = (SELECT current_tenant_id())) WITH CHECK (tenant_id = (SELECT current_tenant_id()));
CREATE POLICY pipeline_all_tenants ON memory_access_log TO memory_pipeline USING (true) WITH CHECK (true);

ALTER TABLE llm_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm_usage FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON llm_usage TO memory_app
    USING (tenant_id = (SELECT current_tenant_id())) WITH CHECK (tenant_id = (SELECT current_tenant_id()));
CREATE POLICY pipeline_all_tenants ON llm_usage TO memory_pipeline USING (true) WITH CHECK (true);

-- Both are append-only: nobody updates them, and rows go only with their user.
GRANT SELECT, INSERT ON memory_access_log, llm_usage TO memory_app;
GRANT SELECT, MAINTAIN ON memory_access_log, llm_usage TO memory_pipeline;
GRANT INSERT ON llm_usage TO memory_pipeline;
