-- What an operator switches on and off while everything runs, and how much of what costs money may be done in an hour.

CREATE TABLE feature_flags (
    flag        text PRIMARY KEY CHECK (flag ~ '^[a-z][a-z_]{0,40}$'),
    enabled     boolean NOT NULL,
    changed_by  text NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE feature_flags IS 'Flags that were set by hand; they hold in every process, whatever its settings say. No row: the settings hold.';
COMMENT ON COLUMN feature_flags.flag IS 'The setting MEMORY_<FLAG>_ENABLED that it overrides, without MEMORY_ and _ENABLED, in small letters.';

CREATE TABLE memory_rate_limits (
    tenant_id   uuid NOT NULL REFERENCES tenants,
    limit_id    uuid NOT NULL DEFAULT uuidv7(),
    user_id     uuid,
    what        text NOT NULL CHECK (what IN ('embedding', 'relation_detection')),
    per_hour    integer NOT NULL CHECK (per_hour BETWEEN 0 AND 1000000),
    changed_by  text NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, limit_id),
    UNIQUE NULLS NOT DISTINCT (tenant_id, user_id, what),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users ON DELETE CASCADE
);
COMMENT ON TABLE memory_rate_limits IS 'Limits for plugins that cost money; where there is no row, the defaults of the settings hold. What was done in the hour is counted in Redis.';
COMMENT ON COLUMN memory_rate_limits.user_id IS 'NULL is a limit for the whole tenant; it holds beside those of its users.';
COMMENT ON COLUMN memory_rate_limits.what IS 'embedding: memories sent to the model; relation_detection: memories whose relations are looked for.';
COMMENT ON COLUMN memory_rate_limits.per_hour IS 'Most within any 60 minutes; 0 is none at all.';

ALTER TABLE plugin_registry ADD COLUMN costs boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN plugin_registry.costs IS 'Whether running it costs money, so that rate limits hold for it.';
UPDATE plugin_registry SET costs = true WHERE plugin = 'embedder:openai';

ALTER TABLE memory_rate_limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_rate_limits FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON memory_rate_limits TO memory_app
    USING (tenant_id = (SELECT current_tenant_id())) WITH CHECK (tenant_id = (SELECT current_tenant_id()));
CREATE POLICY pipeline_all_tenants ON memory_rate_limits TO memory_pipeline USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE, DELETE, MAINTAIN ON feature_flags, memory_rate_limits TO memory_pipeline;
GRANT SELECT ON memory_rate_limits TO memory_app;
