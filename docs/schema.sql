-- The schema `memory` after all migrations, as pg_dump prints it. Generated: python -m memory_pipeline_tests.stores.postgres.schema_snapshot

CREATE SCHEMA memory;

ALTER SCHEMA memory OWNER TO memory_owner;

CREATE FUNCTION memory.current_tenant_id() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid;

ALTER FUNCTION memory.current_tenant_id() OWNER TO memory_owner;

CREATE FUNCTION memory.message_hash(role text, speaker text, content text) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256(convert_to(((((((role || chr(31)) || length(COALESCE(speaker, ''::text))) || chr(31)) || COALESCE(speaker, ''::text)) || chr(31)) || content), 'UTF8'::name));

ALTER FUNCTION memory.message_hash(role text, speaker text, content text) OWNER TO memory_owner;

CREATE FUNCTION memory.refuse_delete_of_conversation_in_use() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF EXISTS (SELECT FROM messages m WHERE m.tenant_id = OLD.tenant_id AND m.conversation_id = OLD.conversation_id) THEN
        RAISE EXCEPTION 'conversation % still has messages', OLD.conversation_id USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN OLD;
END $$;

ALTER FUNCTION memory.refuse_delete_of_conversation_in_use() OWNER TO memory_owner;

CREATE FUNCTION memory.refuse_delete_of_user_in_use() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF EXISTS (SELECT FROM messages m WHERE m.tenant_id = OLD.tenant_id AND m.user_id = OLD.user_id)
        OR EXISTS (SELECT FROM memories m WHERE m.tenant_id = OLD.tenant_id AND m.user_id = OLD.user_id) THEN
        RAISE EXCEPTION 'user % still has messages or memories', OLD.user_id USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN OLD;
END $$;

ALTER FUNCTION memory.refuse_delete_of_user_in_use() OWNER TO memory_owner;

CREATE FUNCTION memory.refuse_tenant_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NEW.tenant_id IS DISTINCT FROM OLD.tenant_id THEN
        RAISE EXCEPTION 'the tenant of a % row is immutable (% to %)', TG_TABLE_NAME, OLD.tenant_id, NEW.tenant_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

ALTER FUNCTION memory.refuse_tenant_change() OWNER TO memory_owner;

CREATE FUNCTION memory.require_conversations() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

ALTER FUNCTION memory.require_conversations() OWNER TO memory_owner;

CREATE FUNCTION memory.require_users() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

ALTER FUNCTION memory.require_users() OWNER TO memory_owner;

CREATE TABLE memory.audit_findings (
    tenant_id uuid NOT NULL,
    finding_id uuid DEFAULT uuidv7() NOT NULL,
    audit_id uuid NOT NULL,
    store text NOT NULL,
    problem text NOT NULL,
    subject_id uuid,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    repaired boolean DEFAULT false NOT NULL
);

ALTER TABLE ONLY memory.audit_findings FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.audit_findings OWNER TO memory_owner;

COMMENT ON TABLE memory.audit_findings IS 'Each place where a store disagreed with Postgres.';

CREATE TABLE memory.audit_runs (
    audit_id uuid DEFAULT uuidv7() NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    finished_at timestamp with time zone,
    checked jsonb DEFAULT '{}'::jsonb NOT NULL,
    findings integer
);

ALTER TABLE memory.audit_runs OWNER TO memory_owner;

COMMENT ON TABLE memory.audit_runs IS 'Comparisons of every store with Postgres; findings is NULL until the run has ended.';

CREATE TABLE memory.conversations (
    tenant_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    user_id uuid NOT NULL,
    source text NOT NULL,
    source_conversation_id text NOT NULL,
    title text,
    project text,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY memory.conversations FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.conversations OWNER TO memory_owner;

COMMENT ON TABLE memory.conversations IS 'Threads of messages; user_id is the user who took part first.';

CREATE TABLE memory.events (
    tenant_id uuid NOT NULL,
    event_id uuid DEFAULT uuidv7() NOT NULL,
    kind text NOT NULL,
    actor text NOT NULL,
    subject_id uuid,
    correlation_id uuid NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    occurred_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY memory.events FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.events OWNER TO memory_owner;

COMMENT ON TABLE memory.events IS 'The append-only log: what happened, to what, by whom, under which correlation id. Ids, counts and hashes, no text.';

CREATE TABLE memory.index_entries (
    tenant_id uuid NOT NULL,
    generation_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    chunk integer NOT NULL,
    version bigint NOT NULL,
    content_hash bytea NOT NULL
);

ALTER TABLE ONLY memory.index_entries FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.index_entries OWNER TO memory_owner;

COMMENT ON TABLE memory.index_entries IS 'What the indexer has written to Chroma; written after Chroma has it, so at worst it is behind.';

CREATE TABLE memory.index_generations (
    tenant_id uuid NOT NULL,
    generation_id uuid DEFAULT uuidv7() NOT NULL,
    model text NOT NULL,
    dimension integer NOT NULL,
    collection_name text NOT NULL,
    collection_uuid uuid NOT NULL,
    state text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT index_generations_state_check CHECK ((state = ANY (ARRAY['live'::text, 'building'::text, 'retired'::text])))
);

ALTER TABLE ONLY memory.index_generations FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.index_generations OWNER TO memory_owner;

COMMENT ON TABLE memory.index_generations IS 'Which Chroma collection is live for a tenant and model, and which were.';

COMMENT ON COLUMN memory.index_generations.collection_uuid IS 'The uuid Chroma gave the collection: another one means its data was lost and made anew.';

CREATE TABLE memory.memories (
    tenant_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    user_id uuid NOT NULL,
    conversation_id uuid,
    kind text NOT NULL,
    status text NOT NULL,
    content text NOT NULL,
    content_hash bytea NOT NULL,
    day date NOT NULL,
    source_message_ids uuid[] NOT NULL,
    project text,
    raw_data jsonb DEFAULT '{}'::jsonb NOT NULL,
    enricher text,
    confidence real,
    subject text,
    predicate text,
    object text,
    negated boolean DEFAULT false NOT NULL,
    slot text,
    valid_from timestamp with time zone,
    valid_to timestamp with time zone,
    superseded_by uuid,
    attempts integer DEFAULT 0 NOT NULL,
    failure_class text,
    failure_text text,
    search_vector tsvector,
    version bigint DEFAULT 1 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT memories_check CHECK (((kind <> 'fact'::text) OR ((subject IS NOT NULL) AND (predicate IS NOT NULL) AND (object IS NOT NULL) AND (valid_from IS NOT NULL) AND (confidence IS NOT NULL) AND (enricher IS NOT NULL)))),
    CONSTRAINT memories_check1 CHECK (((status <> 'failed'::text) OR (failure_text IS NOT NULL))),
    CONSTRAINT memories_confidence_check CHECK (((confidence >= (0)::double precision) AND (confidence <= (1)::double precision))),
    CONSTRAINT memories_content_hash_check CHECK ((length(content_hash) = 32)),
    CONSTRAINT memories_kind_check CHECK ((kind = ANY (ARRAY['episode'::text, 'fact'::text, 'summary'::text, 'profile'::text]))),
    CONSTRAINT memories_source_message_ids_check CHECK ((cardinality(source_message_ids) > 0)),
    CONSTRAINT memories_status_check CHECK ((status = ANY (ARRAY['pending_enrichment'::text, 'active'::text, 'superseded'::text, 'failed'::text, 'deleted'::text])))
);

ALTER TABLE ONLY memory.memories FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.memories OWNER TO memory_owner;

COMMENT ON TABLE memory.memories IS 'Units of long-term memory: episodes (turns), facts, summaries, profiles.';

COMMENT ON COLUMN memory.memories.day IS 'UTC day of the (first) source message: the Dagster partition it belongs to.';

COMMENT ON COLUMN memory.memories.enricher IS 'name@version of the enricher that made a fact or has read an episode.';

COMMENT ON COLUMN memory.memories.slot IS 'What can be true only once at a time for the subject; the later fact supersedes the earlier.';

COMMENT ON COLUMN memory.memories.search_vector IS 'Full-text form, made at enrichment; NULL until then.';

COMMENT ON COLUMN memory.memories.version IS 'Grows with every change; an index entry of a lower version is stale.';

CREATE TABLE memory.memory_embeddings (
    tenant_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    model text NOT NULL,
    chunk integer NOT NULL,
    chunks integer NOT NULL,
    dimension integer NOT NULL,
    embedding public.vector NOT NULL,
    content_hash bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT memory_embeddings_check CHECK ((chunks > chunk)),
    CONSTRAINT memory_embeddings_check1 CHECK ((public.vector_dims(embedding) = dimension)),
    CONSTRAINT memory_embeddings_chunk_check CHECK ((chunk >= 0)),
    CONSTRAINT memory_embeddings_dimension_check CHECK ((dimension > 0))
);

ALTER TABLE ONLY memory.memory_embeddings FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_embeddings OWNER TO memory_owner;

COMMENT ON TABLE memory.memory_embeddings IS 'Vectors of memories (by chunk) under one model: the copy from which any index is rebuilt.';

COMMENT ON COLUMN memory.memory_embeddings.content_hash IS 'Hash of the memory content the vector was made from; other than the memory''s own means stale.';

CREATE TABLE memory.memory_relationships (
    tenant_id uuid NOT NULL,
    from_id uuid NOT NULL,
    to_id uuid NOT NULL,
    kind text NOT NULL,
    confidence real NOT NULL,
    detector text NOT NULL,
    day date NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT memory_relationships_check CHECK ((from_id <> to_id)),
    CONSTRAINT memory_relationships_confidence_check CHECK (((confidence >= (0)::double precision) AND (confidence <= (1)::double precision))),
    CONSTRAINT memory_relationships_kind_check CHECK ((kind = ANY (ARRAY['supersedes'::text, 'contradicts'::text, 'supports'::text, 'related'::text])))
);

ALTER TABLE ONLY memory.memory_relationships FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_relationships OWNER TO memory_owner;

COMMENT ON TABLE memory.memory_relationships IS 'Typed edges between memories: from_id supersedes, contradicts, supports or is related to to_id.';

CREATE TABLE memory.messages (
    tenant_id uuid NOT NULL,
    message_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    user_id uuid NOT NULL,
    source text NOT NULL,
    source_message_id text NOT NULL,
    role text NOT NULL,
    speaker text,
    content text NOT NULL,
    content_hash bytea NOT NULL,
    sent_at timestamp with time zone NOT NULL,
    "position" bigint NOT NULL,
    raw_data jsonb,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT messages_content_hash_check CHECK ((length(content_hash) = 32)),
    CONSTRAINT messages_role_check CHECK ((role = ANY (ARRAY['user'::text, 'assistant'::text, 'system'::text, 'tool'::text])))
);

ALTER TABLE ONLY memory.messages FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.messages OWNER TO memory_owner;

COMMENT ON TABLE memory.messages IS 'Raw chat turns, append-only: the record everything else is derived from.';

COMMENT ON COLUMN memory.messages.content_hash IS 'message_hash(role, speaker, content), sha256.';

COMMENT ON COLUMN memory.messages."position" IS 'Ordinal within the conversation; orders turns that carry the same time.';

CREATE TABLE memory.migration_history (
    version integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE memory.migration_history OWNER TO memory_owner;

CREATE TABLE memory.tenants (
    tenant_id uuid DEFAULT uuidv7() NOT NULL,
    slug text NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT tenants_slug_check CHECK ((slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'::text))
);

ALTER TABLE ONLY memory.tenants FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.tenants OWNER TO memory_owner;

COMMENT ON TABLE memory.tenants IS 'Locked owners of data; every other row belongs to exactly one.';

CREATE TABLE memory.users (
    tenant_id uuid NOT NULL,
    user_id uuid DEFAULT uuidv7() NOT NULL,
    email text NOT NULL,
    display_name text NOT NULL,
    preferences jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT users_email_check CHECK ((email = lower(email)))
);

ALTER TABLE ONLY memory.users FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.users OWNER TO memory_owner;

COMMENT ON TABLE memory.users IS 'Canonical persons, each within one tenant for ever.';

ALTER TABLE ONLY memory.audit_findings
    ADD CONSTRAINT audit_findings_pkey PRIMARY KEY (tenant_id, finding_id);

ALTER TABLE ONLY memory.audit_runs
    ADD CONSTRAINT audit_runs_pkey PRIMARY KEY (audit_id);

ALTER TABLE ONLY memory.conversations
    ADD CONSTRAINT conversations_pkey PRIMARY KEY (tenant_id, conversation_id);

ALTER TABLE ONLY memory.conversations
    ADD CONSTRAINT conversations_tenant_id_source_source_conversation_id_key UNIQUE (tenant_id, source, source_conversation_id);

ALTER TABLE ONLY memory.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (tenant_id, event_id);

ALTER TABLE ONLY memory.index_entries
    ADD CONSTRAINT index_entries_pkey PRIMARY KEY (tenant_id, generation_id, memory_id, chunk);

ALTER TABLE ONLY memory.index_generations
    ADD CONSTRAINT index_generations_collection_name_key UNIQUE (collection_name);

ALTER TABLE ONLY memory.index_generations
    ADD CONSTRAINT index_generations_pkey PRIMARY KEY (tenant_id, generation_id);

ALTER TABLE ONLY memory.memories
    ADD CONSTRAINT memories_pkey PRIMARY KEY (tenant_id, memory_id);

ALTER TABLE ONLY memory.memory_embeddings
    ADD CONSTRAINT memory_embeddings_pkey PRIMARY KEY (tenant_id, memory_id, model, chunk);

ALTER TABLE ONLY memory.memory_relationships
    ADD CONSTRAINT memory_relationships_pkey PRIMARY KEY (tenant_id, from_id, to_id, kind);

ALTER TABLE ONLY memory.messages
    ADD CONSTRAINT messages_pkey PRIMARY KEY (tenant_id, message_id);

ALTER TABLE ONLY memory.messages
    ADD CONSTRAINT messages_tenant_id_source_source_message_id_key UNIQUE (tenant_id, source, source_message_id);

ALTER TABLE ONLY memory.migration_history
    ADD CONSTRAINT migration_history_pkey PRIMARY KEY (version);

ALTER TABLE ONLY memory.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id);

ALTER TABLE ONLY memory.tenants
    ADD CONSTRAINT tenants_slug_key UNIQUE (slug);

ALTER TABLE ONLY memory.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (tenant_id, user_id);

ALTER TABLE ONLY memory.users
    ADD CONSTRAINT users_tenant_id_email_key UNIQUE (tenant_id, email);

ALTER TABLE ONLY memory.users
    ADD CONSTRAINT users_user_id_key UNIQUE (user_id);

CREATE INDEX embeddings_by_content ON memory.memory_embeddings USING btree (tenant_id, model, content_hash);

CREATE INDEX facts_by_message ON memory.memories USING btree (tenant_id, (source_message_ids[1])) WHERE (kind = 'fact'::text);

CREATE INDEX facts_by_slot ON memory.memories USING btree (tenant_id, user_id, subject, slot) WHERE (kind = 'fact'::text);

CREATE INDEX index_entries_by_memory ON memory.index_entries USING btree (tenant_id, memory_id);

CREATE INDEX memories_by_day ON memory.memories USING btree (day, kind);

CREATE INDEX memories_by_user ON memory.memories USING btree (tenant_id, user_id, memory_id);

CREATE INDEX memories_failed ON memory.memories USING btree (day) WHERE (status = 'failed'::text);

CREATE INDEX memories_pending ON memory.memories USING btree (day) WHERE (status = 'pending_enrichment'::text);

CREATE INDEX messages_by_conversation ON memory.messages USING btree (tenant_id, conversation_id, sent_at, "position");

CREATE INDEX messages_by_time ON memory.messages USING btree (sent_at);

CREATE UNIQUE INDEX one_live_generation ON memory.index_generations USING btree (tenant_id, model) WHERE (state = 'live'::text);

CREATE INDEX relationships_by_target ON memory.memory_relationships USING btree (tenant_id, to_id);

CREATE TRIGGER conversations_exist AFTER INSERT ON memory.memories REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION memory.require_conversations();

CREATE TRIGGER conversations_exist AFTER INSERT ON memory.messages REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION memory.require_conversations();

CREATE TRIGGER conversations_in_use_stay BEFORE DELETE ON memory.conversations FOR EACH ROW EXECUTE FUNCTION memory.refuse_delete_of_conversation_in_use();

CREATE TRIGGER users_exist AFTER INSERT ON memory.memories REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION memory.require_users();

CREATE TRIGGER users_exist AFTER INSERT ON memory.messages REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION memory.require_users();

CREATE TRIGGER users_in_use_stay BEFORE DELETE ON memory.users FOR EACH ROW EXECUTE FUNCTION memory.refuse_delete_of_user_in_use();

CREATE TRIGGER users_tenant_is_locked BEFORE UPDATE OF tenant_id ON memory.users FOR EACH ROW EXECUTE FUNCTION memory.refuse_tenant_change();

ALTER TABLE ONLY memory.audit_findings
    ADD CONSTRAINT audit_findings_audit_id_fkey FOREIGN KEY (audit_id) REFERENCES memory.audit_runs(audit_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.audit_findings
    ADD CONSTRAINT audit_findings_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE ONLY memory.conversations
    ADD CONSTRAINT conversations_tenant_id_user_id_fkey FOREIGN KEY (tenant_id, user_id) REFERENCES memory.users(tenant_id, user_id);

ALTER TABLE ONLY memory.events
    ADD CONSTRAINT events_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE ONLY memory.index_entries
    ADD CONSTRAINT index_entries_tenant_id_generation_id_fkey FOREIGN KEY (tenant_id, generation_id) REFERENCES memory.index_generations(tenant_id, generation_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.index_generations
    ADD CONSTRAINT index_generations_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE ONLY memory.memory_embeddings
    ADD CONSTRAINT memory_embeddings_tenant_id_memory_id_fkey FOREIGN KEY (tenant_id, memory_id) REFERENCES memory.memories(tenant_id, memory_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.memory_relationships
    ADD CONSTRAINT memory_relationships_tenant_id_from_id_fkey FOREIGN KEY (tenant_id, from_id) REFERENCES memory.memories(tenant_id, memory_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.memory_relationships
    ADD CONSTRAINT memory_relationships_tenant_id_to_id_fkey FOREIGN KEY (tenant_id, to_id) REFERENCES memory.memories(tenant_id, memory_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.users
    ADD CONSTRAINT users_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE memory.audit_findings ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.conversations ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.events ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.index_entries ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.index_generations ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.memories ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_embeddings ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_relationships ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.messages ENABLE ROW LEVEL SECURITY;

CREATE POLICY pipeline_all_tenants ON memory.audit_findings TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.conversations TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.events TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.index_entries TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.index_generations TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.memories TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.memory_embeddings TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.memory_relationships TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.messages TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.tenants TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.users TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY tenant_isolation ON memory.audit_findings TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.conversations TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.events TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.index_entries TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.index_generations TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.memories TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.memory_embeddings TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.memory_relationships TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.messages TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.tenants TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.users TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

ALTER TABLE memory.tenants ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.users ENABLE ROW LEVEL SECURITY;

GRANT USAGE ON SCHEMA memory TO memory_app;
GRANT USAGE ON SCHEMA memory TO memory_pipeline;

GRANT SELECT ON TABLE memory.audit_findings TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.audit_findings TO memory_pipeline;

GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.audit_runs TO memory_pipeline;

GRANT SELECT,INSERT ON TABLE memory.conversations TO memory_app;
GRANT SELECT,INSERT,MAINTAIN ON TABLE memory.conversations TO memory_pipeline;

GRANT UPDATE(title) ON TABLE memory.conversations TO memory_app;
GRANT UPDATE(title) ON TABLE memory.conversations TO memory_pipeline;

GRANT UPDATE(project) ON TABLE memory.conversations TO memory_app;
GRANT UPDATE(project) ON TABLE memory.conversations TO memory_pipeline;

GRANT SELECT,INSERT ON TABLE memory.events TO memory_app;
GRANT SELECT,INSERT,MAINTAIN ON TABLE memory.events TO memory_pipeline;

GRANT SELECT ON TABLE memory.index_entries TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.index_entries TO memory_pipeline;

GRANT SELECT ON TABLE memory.index_generations TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.index_generations TO memory_pipeline;

GRANT SELECT,INSERT ON TABLE memory.memories TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(conversation_id) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(status) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(content) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(content_hash) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(day) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(source_message_ids) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(project) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(raw_data) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(enricher) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(confidence) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(subject) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(predicate) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(object) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(negated) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(slot) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(valid_from) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(valid_to) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(superseded_by) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(attempts) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(failure_class) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(failure_text) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(search_vector) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(version) ON TABLE memory.memories TO memory_pipeline;

GRANT UPDATE(updated_at) ON TABLE memory.memories TO memory_pipeline;

GRANT SELECT ON TABLE memory.memory_embeddings TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.memory_embeddings TO memory_pipeline;

GRANT SELECT ON TABLE memory.memory_relationships TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.memory_relationships TO memory_pipeline;

GRANT SELECT,INSERT ON TABLE memory.messages TO memory_app;
GRANT SELECT,INSERT,MAINTAIN ON TABLE memory.messages TO memory_pipeline;

GRANT SELECT ON TABLE memory.migration_history TO memory_app;
GRANT SELECT ON TABLE memory.migration_history TO memory_pipeline;

GRANT SELECT ON TABLE memory.tenants TO memory_app;
GRANT SELECT,INSERT,MAINTAIN ON TABLE memory.tenants TO memory_pipeline;

GRANT SELECT,INSERT ON TABLE memory.users TO memory_app;
GRANT SELECT,INSERT,MAINTAIN ON TABLE memory.users TO memory_pipeline;

GRANT UPDATE(display_name) ON TABLE memory.users TO memory_app;
GRANT UPDATE(display_name) ON TABLE memory.users TO memory_pipeline;

GRANT UPDATE(preferences) ON TABLE memory.users TO memory_app;
GRANT UPDATE(preferences) ON TABLE memory.users TO memory_pipeline;
