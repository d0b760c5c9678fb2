-- What must exist before the first migration: roles (they belong to the cluster, so another database may have made
-- them already), the schema, pgvector and the history table. Runs as the admin; safe to run again.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN SELECT * FROM (VALUES ('memory_owner', false), ('memory_app', true), ('memory_pipeline', true)) AS r (name, can_login)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I %s NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE',
                               wanted.name, CASE WHEN wanted.can_login THEN 'LOGIN' ELSE 'NOLOGIN' END);
            EXCEPTION
                -- another database's migrator made it between the look and the creation
                WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
    END LOOP;
    IF NOT pg_has_role(current_user, 'memory_owner', 'SET') THEN
        EXECUTE format('GRANT memory_owner TO %I', current_user);
    END IF;
END $$;

CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;
CREATE SCHEMA IF NOT EXISTS memory AUTHORIZATION memory_owner;

SET ROLE memory_owner;
CREATE TABLE IF NOT EXISTS memory.migration_history (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    sha256      text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT USAGE ON SCHEMA memory TO memory_app, memory_pipeline;
GRANT SELECT ON memory.migration_history TO memory_app, memory_pipeline;
RESET ROLE;
