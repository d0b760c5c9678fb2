-- The schema `memory` after all migrations, as pg_dump prints it. Generated: python -m memory_pipeline_tests.stores.postgres.schema_snapshot

CREATE SCHEMA memory;

ALTER SCHEMA memory OWNER TO memory_owner;

CREATE FUNCTION memory.authenticate(p_issuer text, p_subject text, p_session_hash bytea, p_expires_at timestamp with time zone, p_email text, p_link_by_email boolean, p_correlation_id uuid) RETURNS TABLE(state text, tenant_id uuid, user_id uuid)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'memory', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
    known identities%ROWTYPE;
    match users%ROWTYPE;
    users_with_email bigint := 0;
    revoked timestamptz;
BEGIN
    -- FOR SHARE: a revocation that is under way ends first, and one that comes later finds the session.
    SELECT * INTO known FROM identities i WHERE i.issuer = p_issuer AND i.subject = p_subject FOR SHARE;
    IF NOT FOUND THEN
        IF p_link_by_email AND p_email IS NOT NULL THEN
            SELECT count(*) INTO users_with_email FROM users u WHERE u.email = lower(p_email);
        END IF;
        IF users_with_email = 1 THEN
            SELECT * INTO match FROM users u WHERE u.email = lower(p_email);
        END IF;
        INSERT INTO identities (issuer, subject, state, tenant_id, user_id, email_hint, changed_by)
        VALUES (p_issuer, p_subject, CASE users_with_email WHEN 1 THEN 'linked' ELSE 'pending' END,
                match.tenant_id, match.user_id, p_email, 'system:authenticate')
        ON CONFLICT DO NOTHING
        RETURNING * INTO known;
        IF FOUND THEN
            INSERT INTO auth_events (kind, actor, issuer, subject, correlation_id)
            VALUES (CASE known.state WHEN 'linked' THEN 'identity_linked' ELSE 'identity_pending' END,
                    'system:authenticate', p_issuer, p_subject, p_correlation_id);
            IF known.state = 'linked' THEN
                INSERT INTO events (tenant_id, kind, actor, subject_id, correlation_id, detail)
                VALUES (known.tenant_id, 'identity_linked', 'system:authenticate', known.user_id, p_correlation_id,
                        jsonb_build_object('issuer', p_issuer, 'by', 'verified e-mail'));
            END IF;
        ELSE
            SELECT * INTO known FROM identities i WHERE i.issuer = p_issuer AND i.subject = p_subject FOR SHARE;
        END IF;
    END IF;
    IF known.state <> 'linked' THEN
        RETURN QUERY SELECT known.state, NULL::uuid, NULL::uuid;
        RETURN;
    END IF;
    INSERT INTO user_sessions AS s (session_hash, issuer, subject, tenant_id, user_id, expires_at)
    VALUES (p_session_hash, p_issuer, p_subject, known.tenant_id, known.user_id, p_expires_at)
    ON CONFLICT (session_hash) DO UPDATE SET last_seen_at = clock_timestamp(), expires_at = excluded.expires_at
    RETURNING s.revoked_at INTO revoked;
    IF revoked IS NOT NULL THEN
        RETURN QUERY SELECT 'session_revoked', NULL::uuid, NULL::uuid;
        RETURN;
    END IF;
    RETURN QUERY SELECT known.state, known.tenant_id, known.user_id;
END $$;

ALTER FUNCTION memory.authenticate(p_issuer text, p_subject text, p_session_hash bytea, p_expires_at timestamp with time zone, p_email text, p_link_by_email boolean, p_correlation_id uuid) OWNER TO memory_owner;

CREATE FUNCTION memory.current_tenant_id() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid;

ALTER FUNCTION memory.current_tenant_id() OWNER TO memory_owner;

CREATE TABLE memory.memory_jobs (
    tenant_id uuid NOT NULL,
    job_id uuid DEFAULT uuidv7() NOT NULL,
    job_type text NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    priority smallint DEFAULT 100 NOT NULL,
    subject_id uuid,
    user_id uuid,
    day date NOT NULL,
    payload jsonb DEFAULT '{}'::jsonb NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    claimed_alone boolean DEFAULT false NOT NULL,
    available_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    published_at timestamp with time zone,
    claim_token uuid,
    claimed_by text,
    lease_until timestamp with time zone,
    error_class text,
    error_text text,
    correlation_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT memory_jobs_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT memory_jobs_check CHECK (((state = 'processing'::text) = (claim_token IS NOT NULL))),
    CONSTRAINT memory_jobs_check1 CHECK (((state = 'processing'::text) = (lease_until IS NOT NULL))),
    CONSTRAINT memory_jobs_check2 CHECK (((state = ANY (ARRAY['completed'::text, 'dead'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT memory_jobs_check3 CHECK (((state <> ALL (ARRAY['failed'::text, 'dead'::text])) OR ((error_class IS NOT NULL) AND (error_text IS NOT NULL)))),
    CONSTRAINT memory_jobs_job_type_check CHECK ((job_type = ANY (ARRAY['enrich_and_embed'::text, 'index'::text, 'detect_relations'::text, 'summarize'::text, 'synthesize'::text, 'erase'::text, 'replay_write'::text]))),
    CONSTRAINT memory_jobs_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'processing'::text, 'completed'::text, 'failed'::text, 'dead'::text])))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY memory.memory_jobs FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_jobs OWNER TO memory_owner;

COMMENT ON TABLE memory.memory_jobs IS 'Ledger of asynchronous work; pending and failed rows are still to be done, dead ones need a person.';

COMMENT ON COLUMN memory.memory_jobs.priority IS 'The lower goes first.';

COMMENT ON COLUMN memory.memory_jobs.subject_id IS 'What the work is about: the memory for enrich_and_embed and index, else by job_type.';

COMMENT ON COLUMN memory.memory_jobs.attempts IS 'Counted when claimed, so that work which kills its worker comes to an end too.';

COMMENT ON COLUMN memory.memory_jobs.claimed_alone IS 'A claim of it was never answered: it may end its worker, so no other job is claimed with it.';

COMMENT ON COLUMN memory.memory_jobs.published_at IS 'When its id was put into the Redis stream; NULL while it has yet to be.';

COMMENT ON COLUMN memory.memory_jobs.claim_token IS 'New with each claim; a finish that does not bring it is discarded.';

COMMENT ON COLUMN memory.memory_jobs.lease_until IS 'By the database''s clock; after it the claim is taken away.';

COMMENT ON COLUMN memory.memory_jobs.error_class IS 'Of the last attempt that failed; a job completed later keeps it.';

CREATE FUNCTION memory.get_memory_job_stats() RETURNS TABLE(job_type text, state text, jobs bigint, oldest_age interval)
    LANGUAGE sql STABLE
    BEGIN ATOMIC
 SELECT j.job_type,
     j.state,
     count(*) AS count,
     (clock_timestamp() - min(j.created_at))
    FROM memory.memory_jobs j
   WHERE (j.state = ANY (ARRAY['pending'::text, 'failed'::text]))
   GROUP BY j.job_type, j.state
 UNION ALL
  SELECT j.job_type,
     'processing'::text,
     count(*) AS count,
     (clock_timestamp() - min(j.created_at))
    FROM memory.memory_jobs j
   WHERE (j.state = 'processing'::text)
   GROUP BY j.job_type
 UNION ALL
  SELECT j.job_type,
     'dead'::text,
     count(*) AS count,
     NULL::interval AS "interval"
    FROM memory.memory_jobs j
   WHERE (j.state = 'dead'::text)
   GROUP BY j.job_type
 UNION ALL
  SELECT j.job_type,
     'completed'::text,
     count(*) AS count,
     NULL::interval AS "interval"
    FROM memory.memory_jobs j
   WHERE ((j.state = 'completed'::text) AND (j.finished_at > (clock_timestamp() - '00:10:00'::interval)))
   GROUP BY j.job_type
  ORDER BY 1, 2;
END;

ALTER FUNCTION memory.get_memory_job_stats() OWNER TO memory_owner;

CREATE FUNCTION memory.grant_first_role() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'memory', 'pg_temp'
    AS $$
BEGIN
    INSERT INTO user_roles (tenant_id, user_id, role, granted_by)
    VALUES (NEW.tenant_id, NEW.user_id, 'member', 'system:new-user');
    RETURN NULL;
END $$;

ALTER FUNCTION memory.grant_first_role() OWNER TO memory_owner;

CREATE FUNCTION memory.install_default_plugins() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'memory', 'pg_temp'
    AS $$
BEGIN
    INSERT INTO plugin_installs (tenant_id, plugin, installed_by)
    SELECT NEW.tenant_id, plugin, 'system:new-tenant' FROM plugin_registry WHERE default_install;
    RETURN NULL;
END $$;

ALTER FUNCTION memory.install_default_plugins() OWNER TO memory_owner;

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

CREATE FUNCTION memory.refuse_identity_remapping() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF OLD.tenant_id IS NOT NULL AND NEW.tenant_id IS DISTINCT FROM OLD.tenant_id THEN
        RAISE EXCEPTION 'identity % of % belongs to tenant % for ever', OLD.subject, OLD.issuer, OLD.tenant_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF OLD.state = 'linked' AND NEW.user_id IS DISTINCT FROM OLD.user_id THEN
        RAISE EXCEPTION 'identity % of % is linked to user %: revoke it first', OLD.subject, OLD.issuer, OLD.user_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

ALTER FUNCTION memory.refuse_identity_remapping() OWNER TO memory_owner;

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

CREATE FUNCTION memory.wake_job_waiters() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(1785684595) THEN  -- "jobs" in ASCII
        PERFORM pg_notify('memory_jobs', '');
    END IF;
    RETURN NULL;
END $$;

ALTER FUNCTION memory.wake_job_waiters() OWNER TO memory_owner;

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

CREATE TABLE memory.auth_events (
    event_id uuid DEFAULT uuidv7() NOT NULL,
    kind text NOT NULL,
    actor text NOT NULL,
    issuer text,
    subject text,
    correlation_id uuid NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    occurred_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE memory.auth_events OWNER TO memory_owner;

COMMENT ON TABLE memory.auth_events IS 'The part of the log that belongs to no tenant (yet): refused tokens, subjects seen first, links, revocations.';

CREATE TABLE memory.cache_invalidations (
    tenant_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    invalidation_id uuid DEFAULT uuidv7() NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY memory.cache_invalidations FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.cache_invalidations OWNER TO memory_owner;

COMMENT ON TABLE memory.cache_invalidations IS 'Conversations whose copy in Redis may be stale and has to go.';

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

CREATE TABLE memory.feature_flags (
    flag text NOT NULL,
    enabled boolean NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT feature_flags_flag_check CHECK ((flag ~ '^[a-z][a-z_]{0,40}$'::text))
);

ALTER TABLE memory.feature_flags OWNER TO memory_owner;

COMMENT ON TABLE memory.feature_flags IS 'Flags that were set by hand; they hold in every process, whatever its settings say. No row: the settings hold.';

COMMENT ON COLUMN memory.feature_flags.flag IS 'The setting MEMORY_<FLAG>_ENABLED that it overrides, without MEMORY_ and _ENABLED, in small letters.';

CREATE TABLE memory.identities (
    issuer text NOT NULL,
    subject text NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    tenant_id uuid,
    user_id uuid,
    email_hint text,
    first_seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    changed_by text NOT NULL,
    CONSTRAINT identities_check CHECK (((tenant_id IS NULL) = (user_id IS NULL))),
    CONSTRAINT identities_check1 CHECK (((state <> 'linked'::text) OR (user_id IS NOT NULL))),
    CONSTRAINT identities_issuer_check CHECK ((issuer <> ''::text)),
    CONSTRAINT identities_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'linked'::text, 'revoked'::text]))),
    CONSTRAINT identities_subject_check CHECK ((subject <> ''::text))
);

ALTER TABLE ONLY memory.identities FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.identities OWNER TO memory_owner;

COMMENT ON TABLE memory.identities IS 'Subjects of identity providers: pending until an admin links one to a user, in one tenant for ever.';

COMMENT ON COLUMN memory.identities.email_hint IS 'E-mail the issuer says it has verified; helps the admin to choose, proves nothing.';

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

CREATE TABLE memory.installation (
    only_row boolean DEFAULT true NOT NULL,
    installation_id uuid DEFAULT gen_random_uuid() NOT NULL,
    CONSTRAINT installation_only_row_check CHECK (only_row)
);

ALTER TABLE memory.installation OWNER TO memory_owner;

COMMENT ON TABLE memory.installation IS 'The one row that tells this database from any other.';

CREATE TABLE memory.llm_usage (
    tenant_id uuid NOT NULL,
    usage_id uuid DEFAULT uuidv7() NOT NULL,
    used_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    correlation_id uuid NOT NULL,
    plugin text NOT NULL,
    model text NOT NULL,
    what text NOT NULL,
    requests integer NOT NULL,
    texts integer NOT NULL,
    prompt_tokens bigint,
    completion_tokens bigint DEFAULT 0 NOT NULL,
    cost_usd numeric(18,10),
    CONSTRAINT llm_usage_completion_tokens_check CHECK ((completion_tokens >= 0)),
    CONSTRAINT llm_usage_cost_usd_check CHECK ((cost_usd >= (0)::numeric)),
    CONSTRAINT llm_usage_prompt_tokens_check CHECK ((prompt_tokens >= 0)),
    CONSTRAINT llm_usage_requests_check CHECK ((requests >= 0)),
    CONSTRAINT llm_usage_texts_check CHECK ((texts >= 0)),
    CONSTRAINT llm_usage_what_check CHECK ((what = ANY (ARRAY['embedding'::text, 'query_embedding'::text])))
);

ALTER TABLE ONLY memory.llm_usage FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.llm_usage OWNER TO memory_owner;

COMMENT ON TABLE memory.llm_usage IS 'Calls of models that cost money: one row per tenant and batch.';

COMMENT ON COLUMN memory.llm_usage.correlation_id IS 'The same for all rows of one run of a stage; for a query, that of memory_access_log.';

COMMENT ON COLUMN memory.llm_usage.requests IS 'Requests that were answered. Those that several tenants share are split as tokens are, so that sums over tenants are right; a small share may be 0.';

COMMENT ON COLUMN memory.llm_usage.prompt_tokens IS 'As the endpoint counted them, split over the tenants of a batch by the bytes of their texts; NULL where it did not say.';

COMMENT ON COLUMN memory.llm_usage.cost_usd IS 'US dollars; NULL where no price is set or the endpoint did not count.';

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

CREATE TABLE memory.memory_access_log (
    tenant_id uuid NOT NULL,
    access_id uuid DEFAULT uuidv7() NOT NULL,
    user_id uuid NOT NULL,
    accessed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    correlation_id uuid NOT NULL,
    what text NOT NULL,
    channel text NOT NULL,
    query_hash bytea NOT NULL,
    memory_ids uuid[] NOT NULL,
    memories integer GENERATED ALWAYS AS (cardinality(memory_ids)) STORED NOT NULL,
    turns integer NOT NULL,
    degraded_parts text[] DEFAULT '{}'::text[] NOT NULL,
    degraded boolean GENERATED ALWAYS AS ((cardinality(degraded_parts) > 0)) STORED NOT NULL,
    from_cache boolean NOT NULL,
    milliseconds double precision NOT NULL,
    CONSTRAINT memory_access_log_channel_check CHECK ((channel ~ '^[a-z][a-z_]{0,30}$'::text)),
    CONSTRAINT memory_access_log_milliseconds_check CHECK ((milliseconds >= (0)::double precision)),
    CONSTRAINT memory_access_log_query_hash_check CHECK ((octet_length(query_hash) = 32)),
    CONSTRAINT memory_access_log_turns_check CHECK ((turns >= 0)),
    CONSTRAINT memory_access_log_what_check CHECK ((what = 'recall'::text))
);

ALTER TABLE ONLY memory.memory_access_log FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_access_log OWNER TO memory_owner;

COMMENT ON TABLE memory.memory_access_log IS 'One row for each answer to a user: counts, ids and times, never what was asked or answered.';

COMMENT ON COLUMN memory.memory_access_log.channel IS 'Through what it was asked: cli, api.';

COMMENT ON COLUMN memory.memory_access_log.query_hash IS 'SHA-256 over the user and the query: equal for a question that the same user asks again. Who guesses a question can confirm it.';

COMMENT ON COLUMN memory.memory_access_log.memory_ids IS 'The memories shown, best first; some may have been deleted since.';

COMMENT ON COLUMN memory.memory_access_log.degraded_parts IS 'What the answer had to do without: embedder, chroma.';

COMMENT ON COLUMN memory.memory_access_log.milliseconds IS 'From the question to the answer, without the writing of this row.';

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

CREATE TABLE memory.memory_job_days (
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    job_type text NOT NULL,
    lag_bucket smallint NOT NULL,
    completed bigint NOT NULL,
    attempts bigint NOT NULL,
    most_attempts integer NOT NULL,
    CONSTRAINT memory_job_days_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT memory_job_days_completed_check CHECK ((completed > 0)),
    CONSTRAINT memory_job_days_lag_bucket_check CHECK ((lag_bucket >= 0)),
    CONSTRAINT memory_job_days_most_attempts_check CHECK ((most_attempts >= 0))
);

ALTER TABLE ONLY memory.memory_job_days FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_job_days OWNER TO memory_owner;

COMMENT ON TABLE memory.memory_job_days IS 'Completed jobs that left the ledger, counted by UTC day, type and lag; a job is either here or in memory_jobs.';

COMMENT ON COLUMN memory.memory_job_days.day IS 'UTC day on which the work was asked for (created_at of the jobs).';

COMMENT ON COLUMN memory.memory_job_days.lag_bucket IS 'Bucket b holds lags of more than 2^((b-1)/8) and at most 2^(b/8) milliseconds; 0 those of at most one. Counts of a bucket can be added, percentiles can not.';

COMMENT ON COLUMN memory.memory_job_days.attempts IS 'Tries of these jobs in all.';

COMMENT ON COLUMN memory.memory_job_days.most_attempts IS 'Most tries of one of them.';

CREATE TABLE memory.memory_rate_limits (
    tenant_id uuid NOT NULL,
    limit_id uuid DEFAULT uuidv7() NOT NULL,
    user_id uuid,
    what text NOT NULL,
    per_hour integer NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT memory_rate_limits_per_hour_check CHECK (((per_hour >= 0) AND (per_hour <= 1000000))),
    CONSTRAINT memory_rate_limits_what_check CHECK ((what = ANY (ARRAY['embedding'::text, 'relation_detection'::text])))
);

ALTER TABLE ONLY memory.memory_rate_limits FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_rate_limits OWNER TO memory_owner;

COMMENT ON TABLE memory.memory_rate_limits IS 'Limits for plugins that cost money; where there is no row, the defaults of the settings hold. What was done in the hour is counted in Redis.';

COMMENT ON COLUMN memory.memory_rate_limits.user_id IS 'NULL is a limit for the whole tenant; it holds beside those of its users.';

COMMENT ON COLUMN memory.memory_rate_limits.what IS 'embedding: memories sent to the model; relation_detection: memories whose relations are looked for.';

COMMENT ON COLUMN memory.memory_rate_limits.per_hour IS 'Most within any 60 minutes; 0 is none at all.';

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

CREATE TABLE memory.permissions (
    permission text NOT NULL,
    description text NOT NULL
);

ALTER TABLE memory.permissions OWNER TO memory_owner;

COMMENT ON TABLE memory.permissions IS 'What may be allowed; `plugins:run:NAME` goes with each registered plugin.';

CREATE TABLE memory.plugin_installs (
    tenant_id uuid NOT NULL,
    plugin text NOT NULL,
    installed_by text NOT NULL,
    installed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY memory.plugin_installs FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.plugin_installs OWNER TO memory_owner;

COMMENT ON TABLE memory.plugin_installs IS 'Which plugins may see a tenant''s messages.';

CREATE TABLE memory.plugin_registry (
    plugin text NOT NULL,
    description text NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    default_install boolean DEFAULT false NOT NULL,
    costs boolean DEFAULT false NOT NULL,
    CONSTRAINT plugin_registry_plugin_check CHECK ((plugin ~ '^(enricher|embedder|summarizer):[a-z0-9][a-z0-9_-]{0,62}$'::text))
);

ALTER TABLE memory.plugin_registry OWNER TO memory_owner;

COMMENT ON TABLE memory.plugin_registry IS 'Enrichers, embedders and summarizers that exist; a disabled one runs for nobody.';

COMMENT ON COLUMN memory.plugin_registry.default_install IS 'Every new tenant has it. Never so for one that sends text elsewhere or costs money.';

COMMENT ON COLUMN memory.plugin_registry.costs IS 'Whether running it costs money, so that rate limits hold for it.';

CREATE TABLE memory.role_permissions (
    role text NOT NULL,
    permission text NOT NULL
);

ALTER TABLE memory.role_permissions OWNER TO memory_owner;

COMMENT ON TABLE memory.role_permissions IS 'What each role allows, in every tenant alike.';

CREATE VIEW memory.permitted_plugins WITH (security_invoker='true') AS
 SELECT i.tenant_id,
    r.plugin,
    p.role
   FROM ((memory.plugin_registry r
     JOIN memory.plugin_installs i USING (plugin))
     JOIN memory.role_permissions p ON ((p.permission = ('plugins:run:'::text || r.plugin))))
  WHERE r.enabled;

ALTER VIEW memory.permitted_plugins OWNER TO memory_owner;

COMMENT ON VIEW memory.permitted_plugins IS 'Which plugin may run for which tenant, in which role.';

CREATE TABLE memory.roles (
    role text NOT NULL,
    description text NOT NULL
);

ALTER TABLE memory.roles OWNER TO memory_owner;

COMMENT ON TABLE memory.roles IS 'What users may act as; `pipeline` is what the stages act as.';

CREATE TABLE memory.tenants (
    tenant_id uuid DEFAULT uuidv7() NOT NULL,
    slug text NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    CONSTRAINT tenants_slug_check CHECK ((slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'::text)),
    CONSTRAINT tenants_status_check CHECK ((status = ANY (ARRAY['active'::text, 'suspended'::text])))
);

ALTER TABLE ONLY memory.tenants FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.tenants OWNER TO memory_owner;

COMMENT ON TABLE memory.tenants IS 'Locked owners of data; every other row belongs to exactly one.';

COMMENT ON COLUMN memory.tenants.status IS 'A suspended tenant keeps its data; nobody reads or writes it through the API.';

CREATE TABLE memory.user_roles (
    tenant_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text NOT NULL,
    granted_by text NOT NULL,
    granted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT user_roles_role_check CHECK ((role <> 'pipeline'::text))
);

ALTER TABLE ONLY memory.user_roles FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.user_roles OWNER TO memory_owner;

COMMENT ON TABLE memory.user_roles IS 'Which roles a user has in their tenant.';

CREATE TABLE memory.user_sessions (
    session_hash bytea NOT NULL,
    issuer text NOT NULL,
    subject text NOT NULL,
    tenant_id uuid NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    last_seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    CONSTRAINT user_sessions_session_hash_check CHECK ((length(session_hash) = 32))
);

ALTER TABLE ONLY memory.user_sessions FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.user_sessions OWNER TO memory_owner;

COMMENT ON TABLE memory.user_sessions IS 'Tokens that were accepted, by SHA-256 of their signed part; mirrored to Redis.';

CREATE TABLE memory.users (
    tenant_id uuid NOT NULL,
    user_id uuid DEFAULT uuidv7() NOT NULL,
    email text NOT NULL,
    display_name text NOT NULL,
    preferences jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    CONSTRAINT users_email_check CHECK ((email = lower(email))),
    CONSTRAINT users_status_check CHECK ((status = ANY (ARRAY['active'::text, 'disabled'::text])))
);

ALTER TABLE ONLY memory.users FORCE ROW LEVEL SECURITY;

ALTER TABLE memory.users OWNER TO memory_owner;

COMMENT ON TABLE memory.users IS 'Canonical persons, each within one tenant for ever.';

CREATE TABLE memory.worker_heartbeats (
    worker text NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE memory.worker_heartbeats OWNER TO memory_owner;

COMMENT ON TABLE memory.worker_heartbeats IS 'Workers and when they were last seen, by the database''s clock.';

ALTER TABLE ONLY memory.audit_findings
    ADD CONSTRAINT audit_findings_pkey PRIMARY KEY (tenant_id, finding_id);

ALTER TABLE ONLY memory.audit_runs
    ADD CONSTRAINT audit_runs_pkey PRIMARY KEY (audit_id);

ALTER TABLE ONLY memory.auth_events
    ADD CONSTRAINT auth_events_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY memory.cache_invalidations
    ADD CONSTRAINT cache_invalidations_pkey PRIMARY KEY (tenant_id, invalidation_id);

ALTER TABLE ONLY memory.conversations
    ADD CONSTRAINT conversations_pkey PRIMARY KEY (tenant_id, conversation_id);

ALTER TABLE ONLY memory.conversations
    ADD CONSTRAINT conversations_tenant_id_source_source_conversation_id_key UNIQUE (tenant_id, source, source_conversation_id);

ALTER TABLE ONLY memory.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (tenant_id, event_id);

ALTER TABLE ONLY memory.feature_flags
    ADD CONSTRAINT feature_flags_pkey PRIMARY KEY (flag);

ALTER TABLE ONLY memory.identities
    ADD CONSTRAINT identities_pkey PRIMARY KEY (issuer, subject);

ALTER TABLE ONLY memory.index_entries
    ADD CONSTRAINT index_entries_pkey PRIMARY KEY (tenant_id, generation_id, memory_id, chunk);

ALTER TABLE ONLY memory.index_generations
    ADD CONSTRAINT index_generations_collection_name_key UNIQUE (collection_name);

ALTER TABLE ONLY memory.index_generations
    ADD CONSTRAINT index_generations_pkey PRIMARY KEY (tenant_id, generation_id);

ALTER TABLE ONLY memory.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY memory.llm_usage
    ADD CONSTRAINT llm_usage_pkey PRIMARY KEY (tenant_id, usage_id);

ALTER TABLE ONLY memory.memories
    ADD CONSTRAINT memories_pkey PRIMARY KEY (tenant_id, memory_id);

ALTER TABLE ONLY memory.memory_access_log
    ADD CONSTRAINT memory_access_log_pkey PRIMARY KEY (tenant_id, access_id);

ALTER TABLE ONLY memory.memory_embeddings
    ADD CONSTRAINT memory_embeddings_pkey PRIMARY KEY (tenant_id, memory_id, model, chunk);

ALTER TABLE ONLY memory.memory_job_days
    ADD CONSTRAINT memory_job_days_pkey PRIMARY KEY (tenant_id, day, job_type, lag_bucket);

ALTER TABLE memory.memory_jobs
    ADD CONSTRAINT memory_jobs_payload_own CHECK (((job_type <> 'replay_write'::text) OR ((((payload ->> 'tenant_id'::text) = (tenant_id)::text) AND ((payload ->> 'entry_id'::text) = (job_id)::text)) IS NOT FALSE))) NOT VALID;

ALTER TABLE ONLY memory.memory_jobs
    ADD CONSTRAINT memory_jobs_pkey PRIMARY KEY (tenant_id, job_id);

ALTER TABLE ONLY memory.memory_rate_limits
    ADD CONSTRAINT memory_rate_limits_pkey PRIMARY KEY (tenant_id, limit_id);

ALTER TABLE ONLY memory.memory_rate_limits
    ADD CONSTRAINT memory_rate_limits_tenant_id_user_id_what_key UNIQUE NULLS NOT DISTINCT (tenant_id, user_id, what);

ALTER TABLE ONLY memory.memory_relationships
    ADD CONSTRAINT memory_relationships_pkey PRIMARY KEY (tenant_id, from_id, to_id, kind);

ALTER TABLE ONLY memory.messages
    ADD CONSTRAINT messages_pkey PRIMARY KEY (tenant_id, message_id);

ALTER TABLE ONLY memory.messages
    ADD CONSTRAINT messages_tenant_id_source_source_message_id_key UNIQUE (tenant_id, source, source_message_id);

ALTER TABLE ONLY memory.migration_history
    ADD CONSTRAINT migration_history_pkey PRIMARY KEY (version);

ALTER TABLE ONLY memory.permissions
    ADD CONSTRAINT permissions_pkey PRIMARY KEY (permission);

ALTER TABLE ONLY memory.plugin_installs
    ADD CONSTRAINT plugin_installs_pkey PRIMARY KEY (tenant_id, plugin);

ALTER TABLE ONLY memory.plugin_registry
    ADD CONSTRAINT plugin_registry_pkey PRIMARY KEY (plugin);

ALTER TABLE ONLY memory.role_permissions
    ADD CONSTRAINT role_permissions_pkey PRIMARY KEY (role, permission);

ALTER TABLE ONLY memory.roles
    ADD CONSTRAINT roles_pkey PRIMARY KEY (role);

ALTER TABLE ONLY memory.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id);

ALTER TABLE ONLY memory.tenants
    ADD CONSTRAINT tenants_slug_key UNIQUE (slug);

ALTER TABLE ONLY memory.user_roles
    ADD CONSTRAINT user_roles_pkey PRIMARY KEY (tenant_id, user_id, role);

ALTER TABLE ONLY memory.user_sessions
    ADD CONSTRAINT user_sessions_pkey PRIMARY KEY (session_hash);

ALTER TABLE ONLY memory.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (tenant_id, user_id);

ALTER TABLE ONLY memory.users
    ADD CONSTRAINT users_tenant_id_email_key UNIQUE (tenant_id, email);

ALTER TABLE ONLY memory.users
    ADD CONSTRAINT users_user_id_key UNIQUE (user_id);

ALTER TABLE ONLY memory.worker_heartbeats
    ADD CONSTRAINT worker_heartbeats_pkey PRIMARY KEY (worker);

CREATE INDEX conversations_by_user ON memory.conversations USING btree (tenant_id, user_id, created_at DESC, conversation_id DESC);

CREATE INDEX embeddings_by_content ON memory.memory_embeddings USING btree (tenant_id, model, content_hash);

CREATE INDEX facts_by_message ON memory.memories USING btree (tenant_id, (source_message_ids[1])) WHERE (kind = 'fact'::text);

CREATE INDEX facts_by_slot ON memory.memories USING btree (tenant_id, user_id, subject, slot) WHERE (kind = 'fact'::text);

CREATE INDEX identities_by_user ON memory.identities USING btree (tenant_id, user_id);

CREATE INDEX identities_pending ON memory.identities USING btree (first_seen_at) WHERE (state = 'pending'::text);

CREATE INDEX index_entries_by_memory ON memory.index_entries USING btree (tenant_id, memory_id);

CREATE INDEX jobs_completed ON memory.memory_jobs USING btree (finished_at) WHERE (state = 'completed'::text);

CREATE INDEX jobs_dead ON memory.memory_jobs USING btree (finished_at) WHERE (state = 'dead'::text);

CREATE INDEX jobs_dead_subject ON memory.memory_jobs USING btree (tenant_id, subject_id) WHERE (state = 'dead'::text);

CREATE INDEX jobs_open ON memory.memory_jobs USING btree (priority, available_at) WHERE (state = ANY (ARRAY['pending'::text, 'failed'::text]));

CREATE INDEX jobs_processing ON memory.memory_jobs USING btree (claimed_by) WHERE (state = 'processing'::text);

CREATE INDEX jobs_unpublished ON memory.memory_jobs USING btree (priority, available_at) WHERE ((state = ANY (ARRAY['pending'::text, 'failed'::text])) AND (published_at IS NULL));

CREATE INDEX llm_usage_day ON memory.llm_usage USING btree (used_at);

CREATE INDEX memories_by_day ON memory.memories USING btree (day, kind);

CREATE INDEX memories_by_user ON memory.memories USING btree (tenant_id, user_id, memory_id);

CREATE INDEX memories_deleted ON memory.memories USING btree (tenant_id, memory_id) WHERE (status = 'deleted'::text);

CREATE INDEX memories_failed ON memory.memories USING btree (day) WHERE (status = 'failed'::text);

CREATE INDEX memories_pending ON memory.memories USING btree (day) WHERE (status = 'pending_enrichment'::text);

CREATE INDEX memory_access_log_day ON memory.memory_access_log USING btree (accessed_at);

CREATE INDEX memory_access_log_user ON memory.memory_access_log USING btree (tenant_id, user_id);

CREATE INDEX messages_by_conversation ON memory.messages USING btree (tenant_id, conversation_id, sent_at, "position");

CREATE INDEX messages_by_time ON memory.messages USING btree (sent_at);

CREATE UNIQUE INDEX one_live_generation ON memory.index_generations USING btree (tenant_id, model) WHERE (state = 'live'::text);

CREATE INDEX relationships_by_target ON memory.memory_relationships USING btree (tenant_id, to_id);

CREATE INDEX user_sessions_by_expiry ON memory.user_sessions USING btree (expires_at);

CREATE INDEX user_sessions_by_identity ON memory.user_sessions USING btree (issuer, subject);

CREATE TRIGGER conversations_exist AFTER INSERT ON memory.memories REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION memory.require_conversations();

CREATE TRIGGER conversations_exist AFTER INSERT ON memory.messages REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION memory.require_conversations();

CREATE TRIGGER conversations_in_use_stay BEFORE DELETE ON memory.conversations FOR EACH ROW EXECUTE FUNCTION memory.refuse_delete_of_conversation_in_use();

CREATE TRIGGER identities_stay BEFORE UPDATE ON memory.identities FOR EACH ROW EXECUTE FUNCTION memory.refuse_identity_remapping();

CREATE TRIGGER jobs_wake_waiters AFTER INSERT ON memory.memory_jobs FOR EACH STATEMENT EXECUTE FUNCTION memory.wake_job_waiters();

CREATE TRIGGER tenants_have_plugins AFTER INSERT ON memory.tenants FOR EACH ROW EXECUTE FUNCTION memory.install_default_plugins();

CREATE TRIGGER users_are_members AFTER INSERT ON memory.users FOR EACH ROW EXECUTE FUNCTION memory.grant_first_role();

CREATE TRIGGER users_exist AFTER INSERT ON memory.memories REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION memory.require_users();

CREATE TRIGGER users_exist AFTER INSERT ON memory.messages REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION memory.require_users();

CREATE TRIGGER users_in_use_stay BEFORE DELETE ON memory.users FOR EACH ROW EXECUTE FUNCTION memory.refuse_delete_of_user_in_use();

CREATE TRIGGER users_tenant_is_locked BEFORE UPDATE OF tenant_id ON memory.users FOR EACH ROW EXECUTE FUNCTION memory.refuse_tenant_change();

ALTER TABLE ONLY memory.audit_findings
    ADD CONSTRAINT audit_findings_audit_id_fkey FOREIGN KEY (audit_id) REFERENCES memory.audit_runs(audit_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.audit_findings
    ADD CONSTRAINT audit_findings_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE ONLY memory.cache_invalidations
    ADD CONSTRAINT cache_invalidations_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE ONLY memory.conversations
    ADD CONSTRAINT conversations_tenant_id_user_id_fkey FOREIGN KEY (tenant_id, user_id) REFERENCES memory.users(tenant_id, user_id);

ALTER TABLE ONLY memory.events
    ADD CONSTRAINT events_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE ONLY memory.identities
    ADD CONSTRAINT identities_tenant_id_user_id_fkey FOREIGN KEY (tenant_id, user_id) REFERENCES memory.users(tenant_id, user_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.index_entries
    ADD CONSTRAINT index_entries_tenant_id_generation_id_fkey FOREIGN KEY (tenant_id, generation_id) REFERENCES memory.index_generations(tenant_id, generation_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.index_generations
    ADD CONSTRAINT index_generations_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE ONLY memory.llm_usage
    ADD CONSTRAINT llm_usage_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE ONLY memory.memory_access_log
    ADD CONSTRAINT memory_access_log_tenant_id_user_id_fkey FOREIGN KEY (tenant_id, user_id) REFERENCES memory.users(tenant_id, user_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.memory_embeddings
    ADD CONSTRAINT memory_embeddings_tenant_id_memory_id_fkey FOREIGN KEY (tenant_id, memory_id) REFERENCES memory.memories(tenant_id, memory_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.memory_job_days
    ADD CONSTRAINT memory_job_days_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE ONLY memory.memory_jobs
    ADD CONSTRAINT memory_jobs_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE ONLY memory.memory_rate_limits
    ADD CONSTRAINT memory_rate_limits_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE ONLY memory.memory_rate_limits
    ADD CONSTRAINT memory_rate_limits_tenant_id_user_id_fkey FOREIGN KEY (tenant_id, user_id) REFERENCES memory.users(tenant_id, user_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.memory_relationships
    ADD CONSTRAINT memory_relationships_tenant_id_from_id_fkey FOREIGN KEY (tenant_id, from_id) REFERENCES memory.memories(tenant_id, memory_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.memory_relationships
    ADD CONSTRAINT memory_relationships_tenant_id_to_id_fkey FOREIGN KEY (tenant_id, to_id) REFERENCES memory.memories(tenant_id, memory_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.plugin_installs
    ADD CONSTRAINT plugin_installs_plugin_fkey FOREIGN KEY (plugin) REFERENCES memory.plugin_registry(plugin) ON DELETE CASCADE;

ALTER TABLE ONLY memory.plugin_installs
    ADD CONSTRAINT plugin_installs_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE ONLY memory.role_permissions
    ADD CONSTRAINT role_permissions_permission_fkey FOREIGN KEY (permission) REFERENCES memory.permissions(permission) ON DELETE CASCADE;

ALTER TABLE ONLY memory.role_permissions
    ADD CONSTRAINT role_permissions_role_fkey FOREIGN KEY (role) REFERENCES memory.roles(role) ON DELETE CASCADE;

ALTER TABLE ONLY memory.user_roles
    ADD CONSTRAINT user_roles_role_fkey FOREIGN KEY (role) REFERENCES memory.roles(role);

ALTER TABLE ONLY memory.user_roles
    ADD CONSTRAINT user_roles_tenant_id_user_id_fkey FOREIGN KEY (tenant_id, user_id) REFERENCES memory.users(tenant_id, user_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.user_sessions
    ADD CONSTRAINT user_sessions_issuer_subject_fkey FOREIGN KEY (issuer, subject) REFERENCES memory.identities(issuer, subject) ON DELETE CASCADE;

ALTER TABLE ONLY memory.user_sessions
    ADD CONSTRAINT user_sessions_tenant_id_user_id_fkey FOREIGN KEY (tenant_id, user_id) REFERENCES memory.users(tenant_id, user_id) ON DELETE CASCADE;

ALTER TABLE ONLY memory.users
    ADD CONSTRAINT users_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES memory.tenants(tenant_id);

ALTER TABLE memory.audit_findings ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.cache_invalidations ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.conversations ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.events ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.identities ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.index_entries ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.index_generations ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.llm_usage ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.memories ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_access_log ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_embeddings ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_job_days ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_jobs ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_rate_limits ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.memory_relationships ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.messages ENABLE ROW LEVEL SECURITY;

CREATE POLICY owner_functions ON memory.events TO memory_owner USING (true) WITH CHECK (true);

CREATE POLICY owner_functions ON memory.identities TO memory_owner USING (true) WITH CHECK (true);

CREATE POLICY owner_functions ON memory.plugin_installs TO memory_owner USING (true) WITH CHECK (true);

CREATE POLICY owner_functions ON memory.tenants TO memory_owner USING (true) WITH CHECK (true);

CREATE POLICY owner_functions ON memory.user_roles TO memory_owner USING (true) WITH CHECK (true);

CREATE POLICY owner_functions ON memory.user_sessions TO memory_owner USING (true) WITH CHECK (true);

CREATE POLICY owner_functions ON memory.users TO memory_owner USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.audit_findings TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.cache_invalidations TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.conversations TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.events TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.identities TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.index_entries TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.index_generations TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.llm_usage TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.memories TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.memory_access_log TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.memory_embeddings TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.memory_job_days TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.memory_jobs TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.memory_rate_limits TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.memory_relationships TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.messages TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.plugin_installs TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.tenants TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.user_roles TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.user_sessions TO memory_pipeline USING (true) WITH CHECK (true);

CREATE POLICY pipeline_all_tenants ON memory.users TO memory_pipeline USING (true) WITH CHECK (true);

ALTER TABLE memory.plugin_installs ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant_isolation ON memory.audit_findings TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.cache_invalidations TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.conversations TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.events TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.identities TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.index_entries TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.index_generations TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.llm_usage TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.memories TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.memory_access_log TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.memory_embeddings TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.memory_job_days TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.memory_jobs TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.memory_rate_limits TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.memory_relationships TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.messages TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.plugin_installs TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.tenants TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.user_roles TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.user_sessions TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

CREATE POLICY tenant_isolation ON memory.users TO memory_app USING ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT memory.current_tenant_id() AS current_tenant_id)));

ALTER TABLE memory.tenants ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.user_roles ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.user_sessions ENABLE ROW LEVEL SECURITY;

ALTER TABLE memory.users ENABLE ROW LEVEL SECURITY;

GRANT USAGE ON SCHEMA memory TO memory_app;
GRANT USAGE ON SCHEMA memory TO memory_pipeline;

REVOKE ALL ON FUNCTION memory.authenticate(p_issuer text, p_subject text, p_session_hash bytea, p_expires_at timestamp with time zone, p_email text, p_link_by_email boolean, p_correlation_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION memory.authenticate(p_issuer text, p_subject text, p_session_hash bytea, p_expires_at timestamp with time zone, p_email text, p_link_by_email boolean, p_correlation_id uuid) TO memory_app;
GRANT ALL ON FUNCTION memory.authenticate(p_issuer text, p_subject text, p_session_hash bytea, p_expires_at timestamp with time zone, p_email text, p_link_by_email boolean, p_correlation_id uuid) TO memory_pipeline;

GRANT SELECT,INSERT,DELETE ON TABLE memory.memory_jobs TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.memory_jobs TO memory_pipeline;

REVOKE ALL ON FUNCTION memory.grant_first_role() FROM PUBLIC;

REVOKE ALL ON FUNCTION memory.install_default_plugins() FROM PUBLIC;

GRANT SELECT ON TABLE memory.audit_findings TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.audit_findings TO memory_pipeline;

GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.audit_runs TO memory_pipeline;

GRANT SELECT,INSERT,MAINTAIN ON TABLE memory.auth_events TO memory_pipeline;
GRANT INSERT ON TABLE memory.auth_events TO memory_app;

GRANT SELECT,INSERT ON TABLE memory.cache_invalidations TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN ON TABLE memory.cache_invalidations TO memory_pipeline;

GRANT SELECT,INSERT,DELETE ON TABLE memory.conversations TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN ON TABLE memory.conversations TO memory_pipeline;

GRANT UPDATE(title) ON TABLE memory.conversations TO memory_app;
GRANT UPDATE(title) ON TABLE memory.conversations TO memory_pipeline;

GRANT UPDATE(project) ON TABLE memory.conversations TO memory_app;
GRANT UPDATE(project) ON TABLE memory.conversations TO memory_pipeline;

GRANT SELECT,INSERT ON TABLE memory.events TO memory_app;
GRANT SELECT,INSERT,MAINTAIN ON TABLE memory.events TO memory_pipeline;

GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.feature_flags TO memory_pipeline;

GRANT SELECT,INSERT,MAINTAIN,UPDATE ON TABLE memory.identities TO memory_pipeline;

GRANT SELECT ON TABLE memory.index_entries TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.index_entries TO memory_pipeline;

GRANT SELECT ON TABLE memory.index_generations TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.index_generations TO memory_pipeline;

GRANT SELECT ON TABLE memory.installation TO memory_app;
GRANT SELECT ON TABLE memory.installation TO memory_pipeline;

GRANT SELECT,INSERT ON TABLE memory.llm_usage TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN ON TABLE memory.llm_usage TO memory_pipeline;

GRANT SELECT,INSERT,DELETE ON TABLE memory.memories TO memory_app;
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

GRANT SELECT,INSERT ON TABLE memory.memory_access_log TO memory_app;
GRANT SELECT,DELETE,MAINTAIN ON TABLE memory.memory_access_log TO memory_pipeline;

GRANT SELECT ON TABLE memory.memory_embeddings TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.memory_embeddings TO memory_pipeline;

GRANT SELECT ON TABLE memory.memory_job_days TO memory_app;
GRANT SELECT,INSERT,MAINTAIN,UPDATE ON TABLE memory.memory_job_days TO memory_pipeline;

GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.memory_rate_limits TO memory_pipeline;
GRANT SELECT ON TABLE memory.memory_rate_limits TO memory_app;

GRANT SELECT ON TABLE memory.memory_relationships TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.memory_relationships TO memory_pipeline;

GRANT SELECT,INSERT,DELETE ON TABLE memory.messages TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN ON TABLE memory.messages TO memory_pipeline;

GRANT SELECT ON TABLE memory.migration_history TO memory_app;
GRANT SELECT ON TABLE memory.migration_history TO memory_pipeline;

GRANT SELECT ON TABLE memory.permissions TO memory_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE memory.permissions TO memory_pipeline;

GRANT SELECT ON TABLE memory.plugin_installs TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.plugin_installs TO memory_pipeline;

GRANT SELECT ON TABLE memory.plugin_registry TO memory_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE memory.plugin_registry TO memory_pipeline;

GRANT SELECT ON TABLE memory.role_permissions TO memory_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE memory.role_permissions TO memory_pipeline;

GRANT SELECT ON TABLE memory.permitted_plugins TO memory_app;
GRANT SELECT ON TABLE memory.permitted_plugins TO memory_pipeline;

GRANT SELECT ON TABLE memory.roles TO memory_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE memory.roles TO memory_pipeline;

GRANT SELECT ON TABLE memory.tenants TO memory_app;
GRANT SELECT,INSERT,MAINTAIN ON TABLE memory.tenants TO memory_pipeline;

GRANT UPDATE(status) ON TABLE memory.tenants TO memory_pipeline;

GRANT SELECT ON TABLE memory.user_roles TO memory_app;
GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE memory.user_roles TO memory_pipeline;

GRANT SELECT,DELETE,MAINTAIN ON TABLE memory.user_sessions TO memory_pipeline;

GRANT UPDATE(revoked_at) ON TABLE memory.user_sessions TO memory_pipeline;

GRANT SELECT,INSERT ON TABLE memory.users TO memory_app;
GRANT SELECT,INSERT,MAINTAIN ON TABLE memory.users TO memory_pipeline;

GRANT UPDATE(display_name) ON TABLE memory.users TO memory_app;
GRANT UPDATE(display_name) ON TABLE memory.users TO memory_pipeline;

GRANT UPDATE(preferences) ON TABLE memory.users TO memory_app;
GRANT UPDATE(preferences) ON TABLE memory.users TO memory_pipeline;

GRANT UPDATE(status) ON TABLE memory.users TO memory_pipeline;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE memory.worker_heartbeats TO memory_pipeline;
