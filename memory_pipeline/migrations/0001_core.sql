-- Tenants, users, messages, memories, embeddings and their bookkeeping, with row-level security from the start.
--
-- Runs as memory_owner. Roles are made by the bootstrap in stores/postgres (roles belong to the cluster, not to a
-- database): memory_owner owns, memory_app serves one tenant at a time, memory_pipeline works for all of them by an
-- explicit policy.

-- The tenant that the current transaction speaks for; NULL (so: no row) outside of one. After SET LOCAL ends the
-- variable is '' rather than unset, hence NULLIF.
CREATE FUNCTION current_tenant_id() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN NULLIF(current_setting('app.tenant_id', true), '')::uuid;

-- Tells a repeated message from a conflicting one under the same source id. The length keeps speaker and content apart,
-- whatever characters they hold. model/ids.py computes the same. STABLE, as convert_to is: declared IMMUTABLE, Postgres
-- would call it row by row instead of expanding it.
CREATE FUNCTION message_hash(role text, speaker text, content text) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256(convert_to(role || chr(31) || length(coalesce(speaker, '')) || chr(31) || coalesce(speaker, '')
                             || chr(31) || content, 'UTF8'));

CREATE TABLE tenants (
    tenant_id   uuid PRIMARY KEY DEFAULT uuidv7(),
    slug        text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE tenants IS 'Locked owners of data; every other row belongs to exactly one.';

CREATE TABLE users (
    tenant_id     uuid NOT NULL REFERENCES tenants,
    user_id       uuid NOT NULL DEFAULT uuidv7(),
    email         text NOT NULL CHECK (email = lower(email)),
    display_name  text NOT NULL,
    preferences   jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, user_id),
    UNIQUE (user_id),
    UNIQUE (tenant_id, email)
);
COMMENT ON TABLE users IS 'Canonical persons, each within one tenant for ever.';

CREATE FUNCTION refuse_tenant_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.tenant_id IS DISTINCT FROM OLD.tenant_id THEN
        RAISE EXCEPTION 'the tenant of a % row is immutable (% to %)', TG_TABLE_NAME, OLD.tenant_id, NEW.tenant_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER users_tenant_is_locked BEFORE UPDATE OF tenant_id ON users
    FOR EACH ROW EXECUTE FUNCTION refuse_tenant_change();

CREATE TABLE conversations (
    tenant_id               uuid NOT NULL,
    conversation_id         uuid NOT NULL,
    user_id                 uuid NOT NULL,
    source                  text NOT NULL,
    source_conversation_id  text NOT NULL,
    title                   text,
    project                 text,
    created_at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, conversation_id),
    UNIQUE (tenant_id, source, source_conversation_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users
);
COMMENT ON TABLE conversations IS 'Threads of messages; user_id is the user who took part first.';

CREATE TABLE messages (
    tenant_id          uuid NOT NULL,
    message_id         uuid NOT NULL,
    conversation_id    uuid NOT NULL,
    user_id            uuid NOT NULL,
    source             text NOT NULL,
    source_message_id  text NOT NULL,
    role               text NOT NULL CHECK (role IN ('user', 'assistant', 'system', 'tool')),
    speaker            text,
    content            text NOT NULL,
    content_hash       bytea NOT NULL CHECK (length(content_hash) = 32),
    sent_at            timestamptz NOT NULL,
    position           bigint NOT NULL,
    raw_data           jsonb,
    received_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, message_id),
    UNIQUE (tenant_id, source, source_message_id)
);
CREATE INDEX messages_by_conversation ON messages (tenant_id, conversation_id, sent_at, position);
CREATE INDEX messages_by_time ON messages (sent_at);
COMMENT ON TABLE messages IS 'Raw chat turns, append-only: the record everything else is derived from.';
COMMENT ON COLUMN messages.content_hash IS 'message_hash(role, speaker, content), sha256.';
COMMENT ON COLUMN messages.position IS 'Ordinal within the conversation; orders turns that carry the same time.';

CREATE TABLE events (
    tenant_id       uuid NOT NULL REFERENCES tenants,
    event_id        uuid NOT NULL DEFAULT uuidv7(),
    kind            text NOT NULL,
    actor           text NOT NULL,
    subject_id      uuid,
    correlation_id  uuid NOT NULL,
    detail          jsonb NOT NULL DEFAULT '{}',
    occurred_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, event_id)
);
COMMENT ON TABLE events IS 'The append-only log: what happened, to what, by whom, under which correlation id. Ids, counts and hashes, no text.';

CREATE TABLE memories (
    tenant_id           uuid NOT NULL,
    memory_id           uuid NOT NULL,
    user_id             uuid NOT NULL,
    conversation_id     uuid,
    kind                text NOT NULL CHECK (kind IN ('episode', 'fact', 'summary', 'profile')),
    status              text NOT NULL CHECK (status IN ('pending_enrichment', 'active', 'superseded', 'failed', 'deleted')),
    content             text NOT NULL,
    content_hash        bytea NOT NULL CHECK (length(content_hash) = 32),
    day                 date NOT NULL,
    source_message_ids  uuid[] NOT NULL,
    project             text,
    raw_data            jsonb NOT NULL DEFAULT '{}',
    enricher            text,
    confidence          real CHECK (confidence BETWEEN 0 AND 1),
    subject             text,
    predicate           text,
    object              text,
    negated             boolean NOT NULL DEFAULT false,
    slot                text,
    valid_from          timestamptz,
    valid_to            timestamptz,
    superseded_by       uuid,
    attempts            integer NOT NULL DEFAULT 0,
    failure_class       text,
    failure_text        text,
    search_vector       tsvector,
    version             bigint NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, memory_id),
    CHECK (cardinality(source_message_ids) > 0),
    CHECK (kind <> 'fact' OR (subject IS NOT NULL AND predicate IS NOT NULL AND object IS NOT NULL
                              AND valid_from IS NOT NULL AND confidence IS NOT NULL AND enricher IS NOT NULL)),
    CHECK (status <> 'failed' OR failure_text IS NOT NULL)
);
CREATE INDEX memories_by_day ON memories (day, kind);
CREATE INDEX memories_pending ON memories (day) WHERE status = 'pending_enrichment';
CREATE INDEX memories_failed ON memories (day) WHERE status = 'failed';
CREATE INDEX facts_by_slot ON memories (tenant_id, user_id, subject, slot) WHERE kind = 'fact';
CREATE INDEX facts_by_message ON memories (tenant_id, (source_message_ids[1])) WHERE kind = 'fact';
-- A user's memories in the order of time (ids begin with it): what full text searches, and the newest conversation.
-- No index over search_vector: `@@` is not leakproof, so row-level security keeps Postgres from using one for memory_app.
CREATE INDEX memories_by_user ON memories (tenant_id, user_id, memory_id);
COMMENT ON TABLE memories IS 'Units of long-term memory: episodes (turns), facts, summaries, profiles.';
COMMENT ON COLUMN memories.day IS 'UTC day of the (first) source message: the Dagster partition it belongs to.';
COMMENT ON COLUMN memories.slot IS 'What can be true only once at a time for the subject; the later fact supersedes the earlier.';
COMMENT ON COLUMN memories.version IS 'Grows with every change; an index entry of a lower version is stale.';
COMMENT ON COLUMN memories.enricher IS 'name@version of the enricher that made a fact or has read an episode.';
COMMENT ON COLUMN memories.search_vector IS 'Full-text form, made at enrichment; NULL until then.';

-- messages and memories refer to users and conversations by the composite key. A FOREIGN KEY would look up every row by
-- itself, which was half the time of an import (18 of 37 microseconds a row); these triggers make the same check once per
-- statement, with the same lock on the referenced rows, and refuse to delete what is referred to.
CREATE FUNCTION require_users() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    missing bigint;
BEGIN
    WITH named AS MATERIALIZED (
        SELECT DISTINCT tenant_id, user_id FROM new_rows
    ), locked AS MATERIALIZED (
        SELECT FROM users u JOIN named USING (tenant_id, user_id) FOR KEY SHARE OF u
    )
    SELECT (SELECT count(*) FROM named) - (SELECT count(*) FROM locked) INTO missing;
    IF missing > 0 THEN
        RAISE EXCEPTION 'rows of % name a user that is not in their tenant', TG_TABLE_NAME
            USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION require_conversations() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    missing bigint;
BEGIN
    WITH named AS MATERIALIZED (
        SELECT DISTINCT tenant_id, conversation_id FROM new_rows WHERE conversation_id IS NOT NULL
    ), locked AS MATERIALIZED (
        SELECT FROM conversations c JOIN named USING (tenant_id, conversation_id) FOR KEY SHARE OF c
    )
    SELECT (SELECT count(*) FROM named) - (SELECT count(*) FROM locked) INTO missing;
    IF missing > 0 THEN
        RAISE EXCEPTION 'rows of % name a conversation that is not in their tenant', TG_TABLE_NAME
            USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION refuse_delete_of_user_in_use() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM messages m WHERE m.tenant_id = OLD.tenant_id AND m.user_id = OLD.user_id)
        OR EXISTS (SELECT FROM memories m WHERE m.tenant_id = OLD.tenant_id AND m.user_id = OLD.user_id) THEN
        RAISE EXCEPTION 'user % still has messages or memories', OLD.user_id USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN OLD;
END $$;

CREATE FUNCTION refuse_delete_of_conversation_in_use() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM messages m WHERE m.tenant_id = OLD.tenant_id AND m.conversation_id = OLD.conversation_id) THEN
        RAISE EXCEPTION 'conversation % still has messages', OLD.conversation_id USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN OLD;
END $$;

CREATE TRIGGER users_exist AFTER INSERT ON messages
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION require_users();
CREATE TRIGGER conversations_exist AFTER INSERT ON messages
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION require_conversations();
CREATE TRIGGER users_exist AFTER INSERT ON memories
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION require_users();
CREATE TRIGGER conversations_exist AFTER INSERT ON memories
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION require_conversations();
CREATE TRIGGER users_in_use_stay BEFORE DELETE ON users
    FOR EACH ROW EXECUTE FUNCTION refuse_delete_of_user_in_use();
CREATE TRIGGER conversations_in_use_stay BEFORE DELETE ON conversations
    FOR EACH ROW EXECUTE FUNCTION refuse_delete_of_conversation_in_use();

CREATE TABLE memory_embeddings (
    tenant_id     uuid NOT NULL,
    memory_id     uuid NOT NULL,
    model         text NOT NULL,
    chunk         integer NOT NULL CHECK (chunk >= 0),
    chunks        integer NOT NULL CHECK (chunks > chunk),
    dimension     integer NOT NULL CHECK (dimension > 0),
    embedding     vector NOT NULL,
    content_hash  bytea NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, memory_id, model, chunk),
    FOREIGN KEY (tenant_id, memory_id) REFERENCES memories ON DELETE CASCADE,
    CHECK (vector_dims(embedding) = dimension)
);
CREATE INDEX embeddings_by_content ON memory_embeddings (tenant_id, model, content_hash);
COMMENT ON TABLE memory_embeddings IS 'Vectors of memories (by chunk) under one model: the copy from which any index is rebuilt.';
COMMENT ON COLUMN memory_embeddings.content_hash IS 'Hash of the memory content the vector was made from; other than the memory''s own means stale.';

CREATE TABLE memory_relationships (
    tenant_id   uuid NOT NULL,
    from_id     uuid NOT NULL,
    to_id       uuid NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('supersedes', 'contradicts', 'supports', 'related')),
    confidence  real NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    detector    text NOT NULL,
    day         date NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, from_id, to_id, kind),
    FOREIGN KEY (tenant_id, from_id) REFERENCES memories ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, to_id) REFERENCES memories ON DELETE CASCADE,
    CHECK (from_id <> to_id)
);
CREATE INDEX relationships_by_target ON memory_relationships (tenant_id, to_id);
COMMENT ON TABLE memory_relationships IS 'Typed edges between memories: from_id supersedes, contradicts, supports or is related to to_id.';

CREATE TABLE index_generations (
    tenant_id        uuid NOT NULL REFERENCES tenants,
    generation_id    uuid NOT NULL DEFAULT uuidv7(),
    model            text NOT NULL,
    dimension        integer NOT NULL,
    collection_name  text NOT NULL UNIQUE,
    collection_uuid  uuid NOT NULL,
    state            text NOT NULL CHECK (state IN ('live', 'building', 'retired')),
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, generation_id)
);
CREATE UNIQUE INDEX one_live_generation ON index_generations (tenant_id, model) WHERE state = 'live';
COMMENT ON TABLE index_generations IS 'Which Chroma collection is live for a tenant and model, and which were.';
COMMENT ON COLUMN index_generations.collection_uuid IS 'The uuid Chroma gave the collection: another one means its data was lost and made anew.';

CREATE TABLE index_entries (
    tenant_id      uuid NOT NULL,
    generation_id  uuid NOT NULL,
    memory_id      uuid NOT NULL,
    chunk          integer NOT NULL,
    version        bigint NOT NULL,
    content_hash   bytea NOT NULL,
    PRIMARY KEY (tenant_id, generation_id, memory_id, chunk),
    FOREIGN KEY (tenant_id, generation_id) REFERENCES index_generations ON DELETE CASCADE
);
CREATE INDEX index_entries_by_memory ON index_entries (tenant_id, memory_id);
COMMENT ON TABLE index_entries IS 'What the indexer has written to Chroma; written after Chroma has it, so at worst it is behind.';

CREATE TABLE audit_runs (
    audit_id     uuid PRIMARY KEY DEFAULT uuidv7(),
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz,
    checked      jsonb NOT NULL DEFAULT '{}',
    findings     integer
);
COMMENT ON TABLE audit_runs IS 'Comparisons of every store with Postgres; findings is NULL until the run has ended.';

CREATE TABLE audit_findings (
    tenant_id   uuid NOT NULL REFERENCES tenants,
    finding_id  uuid NOT NULL DEFAULT uuidv7(),
    audit_id    uuid NOT NULL REFERENCES audit_runs ON DELETE CASCADE,
    store       text NOT NULL,
    problem     text NOT NULL,
    subject_id  uuid,
    detail      jsonb NOT NULL DEFAULT '{}',
    repaired    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, finding_id)
);
COMMENT ON TABLE audit_findings IS 'Each place where a store disagreed with Postgres.';

-- Row-level security. memory_app sees the tenant of its transaction; memory_pipeline sees all, by a policy that says so.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tenants', 'users', 'conversations', 'messages', 'events', 'memories',
                                'memory_embeddings', 'memory_relationships', 'index_generations', 'index_entries',
                                'audit_findings']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant_isolation ON %I TO memory_app '
                       'USING (tenant_id = (SELECT current_tenant_id())) '
                       'WITH CHECK (tenant_id = (SELECT current_tenant_id()))', name);
        EXECUTE format('CREATE POLICY pipeline_all_tenants ON %I TO memory_pipeline USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA memory TO memory_app, memory_pipeline;
GRANT SELECT ON ALL TABLES IN SCHEMA memory TO memory_app, memory_pipeline;
REVOKE SELECT ON audit_runs FROM memory_app;  -- they count over all tenants
GRANT INSERT ON tenants TO memory_pipeline;
GRANT INSERT ON users, conversations, messages, events, memories TO memory_app, memory_pipeline;
GRANT UPDATE (display_name, preferences) ON users TO memory_app, memory_pipeline;
GRANT UPDATE (title, project) ON conversations TO memory_app, memory_pipeline;
-- Everything but whose memory it is and what kind: a row never changes hands.
GRANT UPDATE (conversation_id, status, content, content_hash, day, source_message_ids, project, raw_data, enricher,
              confidence, subject, predicate, object, negated, slot, valid_from, valid_to, superseded_by, attempts,
              failure_class, failure_text, search_vector, version, updated_at) ON memories TO memory_pipeline;
GRANT INSERT, UPDATE, DELETE ON memory_embeddings, memory_relationships, index_generations, index_entries,
    audit_findings, audit_runs TO memory_pipeline;
GRANT DELETE ON memories TO memory_pipeline;
-- For ANALYZE after an import, which can't wait for autovacuum.
GRANT MAINTAIN ON tenants, users, conversations, messages, events, memories, memory_embeddings, memory_relationships,
    index_generations, index_entries, audit_findings, audit_runs TO memory_pipeline;
