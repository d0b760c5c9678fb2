-- Who is asking: identities of identity providers, sessions, roles and permissions, plugins; and the marks by which a
-- database is known and a cache is told that it missed something.
--
-- What has to be looked up before a tenant is known (a token's subject, a session) is reached by memory_app through
-- functions of memory_owner alone: they answer one question each, so a connection of memory_app can't list identities.

-- One row: which installation this is. Two processes that see different rows work on different databases.
CREATE TABLE installation (
    only_row         boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    installation_id  uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO installation DEFAULT VALUES;
COMMENT ON TABLE installation IS 'The one row that tells this database from any other.';

ALTER TABLE tenants ADD COLUMN status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended'));
ALTER TABLE users ADD COLUMN status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled'));
COMMENT ON COLUMN tenants.status IS 'A suspended tenant keeps its data; nobody reads or writes it through the API.';

CREATE INDEX conversations_by_user ON conversations (tenant_id, user_id, created_at DESC, conversation_id DESC);

CREATE TABLE identities (
    issuer         text NOT NULL CHECK (issuer <> ''),
    subject        text NOT NULL CHECK (subject <> ''),
    state          text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'linked', 'revoked')),
    tenant_id      uuid,
    user_id        uuid,
    email_hint     text,
    first_seen_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by     text NOT NULL,
    PRIMARY KEY (issuer, subject),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users ON DELETE CASCADE,
    CHECK ((tenant_id IS NULL) = (user_id IS NULL)),
    CHECK (state <> 'linked' OR user_id IS NOT NULL)
);
CREATE INDEX identities_by_user ON identities (tenant_id, user_id);
CREATE INDEX identities_pending ON identities (first_seen_at) WHERE state = 'pending';
COMMENT ON TABLE identities IS 'Subjects of identity providers: pending until an admin links one to a user, in one tenant for ever.';
COMMENT ON COLUMN identities.email_hint IS 'E-mail the issuer says it has verified; helps the admin to choose, proves nothing.';

-- An identity that belonged to a tenant once never belongs to another; to another user of it only after it was revoked.
CREATE FUNCTION refuse_identity_remapping() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER identities_stay BEFORE UPDATE ON identities
    FOR EACH ROW EXECUTE FUNCTION refuse_identity_remapping();

CREATE TABLE user_sessions (
    session_hash  bytea PRIMARY KEY CHECK (length(session_hash) = 32),
    issuer        text NOT NULL,
    subject       text NOT NULL,
    tenant_id     uuid NOT NULL,
    user_id       uuid NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at    timestamptz NOT NULL,
    revoked_at    timestamptz,
    FOREIGN KEY (issuer, subject) REFERENCES identities ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES users ON DELETE CASCADE
);
CREATE INDEX user_sessions_by_identity ON user_sessions (issuer, subject);
CREATE INDEX user_sessions_by_expiry ON user_sessions (expires_at);
COMMENT ON TABLE user_sessions IS 'Tokens that were accepted, by SHA-256 of their signed part; mirrored to Redis.';

CREATE TABLE auth_events (
    event_id        uuid PRIMARY KEY DEFAULT uuidv7(),
    kind            text NOT NULL,
    actor           text NOT NULL,
    issuer          text,
    subject         text,
    correlation_id  uuid NOT NULL,
    detail          jsonb NOT NULL DEFAULT '{}',
    occurred_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE auth_events IS 'The part of the log that belongs to no tenant (yet): refused tokens, subjects seen first, links, revocations.';

CREATE TABLE roles (
    role         text PRIMARY KEY,
    description  text NOT NULL
);
COMMENT ON TABLE roles IS 'What users may act as; `pipeline` is what the stages act as.';

CREATE TABLE permissions (
    permission   text PRIMARY KEY,
    description  text NOT NULL
);
COMMENT ON TABLE permissions IS 'What may be allowed; `plugins:run:NAME` goes with each registered plugin.';

CREATE TABLE role_permissions (
    role        text NOT NULL REFERENCES roles ON DELETE CASCADE,
    permission  text NOT NULL REFERENCES permissions ON DELETE CASCADE,
    PRIMARY KEY (role, permission)
);
COMMENT ON TABLE role_permissions IS 'What each role allows, in every tenant alike.';

CREATE TABLE user_roles (
    tenant_id   uuid NOT NULL,
    user_id     uuid NOT NULL,
    role        text NOT NULL REFERENCES roles,
    granted_by  text NOT NULL,
    granted_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, user_id, role),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users ON DELETE CASCADE,
    CHECK (role <> 'pipeline')
);
COMMENT ON TABLE user_roles IS 'Which roles a user has in their tenant.';

CREATE TABLE plugin_registry (
    plugin           text PRIMARY KEY CHECK (plugin ~ '^(enricher|embedder|summarizer):[a-z0-9][a-z0-9_-]{0,62}$'),
    description      text NOT NULL,
    enabled          boolean NOT NULL DEFAULT true,
    default_install  boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE plugin_registry IS 'Enrichers, embedders and summarizers that exist; a disabled one runs for nobody.';
COMMENT ON COLUMN plugin_registry.default_install IS 'Every new tenant has it. Never so for one that sends text elsewhere or costs money.';

CREATE TABLE plugin_installs (
    tenant_id     uuid NOT NULL REFERENCES tenants,
    plugin        text NOT NULL REFERENCES plugin_registry ON DELETE CASCADE,
    installed_by  text NOT NULL,
    installed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, plugin)
);
COMMENT ON TABLE plugin_installs IS 'Which plugins may see a tenant''s messages.';

-- A plugin runs for a tenant in a role: registered, enabled, installed, permitted.
CREATE VIEW permitted_plugins WITH (security_invoker = true) AS
    SELECT i.tenant_id, r.plugin, p.role
    FROM plugin_registry r
    JOIN plugin_installs i USING (plugin)
    JOIN role_permissions p ON p.permission = 'plugins:run:' || r.plugin
    WHERE r.enabled;
COMMENT ON VIEW permitted_plugins IS 'Which plugin may run for which tenant, in which role.';

-- Cached conversations that a write could not bring up to date because Redis did not answer: written in the transaction
-- of the messages, deleted once the cache has let go of the conversation.
CREATE TABLE cache_invalidations (
    tenant_id        uuid NOT NULL REFERENCES tenants,
    conversation_id  uuid NOT NULL,
    invalidation_id  uuid NOT NULL DEFAULT uuidv7(),
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, invalidation_id)
);
COMMENT ON TABLE cache_invalidations IS 'Conversations whose copy in Redis may be stale and has to go.';

INSERT INTO plugin_registry (plugin, description, default_install) VALUES
    ('enricher:local', 'finds facts in messages by rules, on this machine', true),
    ('embedder:minilm', 'all-MiniLM-L6-v2, on this machine', true),
    ('embedder:openai', 'an OpenAI-compatible endpoint: text leaves this machine', false),
    ('summarizer:extractive', 'weekly digests made of what was said, on this machine', true);

INSERT INTO roles (role, description) VALUES
    ('member', 'writes and reads their own conversations and memories'),
    ('reader', 'reads their own conversations and memories'),
    ('admin', 'administers their tenant'),
    ('pipeline', 'what the stages of the pipeline act as');

INSERT INTO permissions (permission, description) VALUES
    ('messages:write', 'post messages'),
    ('memory:read', 'ask for context and search'),
    ('conversations:read', 'list and read one''s conversations'),
    ('conversations:delete', 'delete one''s conversations'),
    ('analytics:read', 'read the tenant''s analytics');
INSERT INTO permissions (permission, description)
    SELECT 'plugins:run:' || plugin, 'run ' || plugin FROM plugin_registry;

INSERT INTO role_permissions (role, permission)
    SELECT r.role, p.permission
    FROM roles r
    CROSS JOIN permissions p
    WHERE r.role = 'admin'
       OR r.role IN ('member', 'pipeline') AND starts_with(p.permission, 'plugins:run:')
       OR r.role = 'member' AND p.permission IN ('messages:write', 'memory:read', 'conversations:read', 'conversations:delete')
       OR r.role = 'reader' AND p.permission IN ('memory:read', 'conversations:read');

-- New users are members and new tenants have the default plugins; so have those that are here already.
CREATE FUNCTION grant_first_role() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = memory, pg_temp AS $$
BEGIN
    INSERT INTO user_roles (tenant_id, user_id, role, granted_by)
    VALUES (NEW.tenant_id, NEW.user_id, 'member', 'system:new-user');
    RETURN NULL;
END $$;
CREATE FUNCTION install_default_plugins() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = memory, pg_temp AS $$
BEGIN
    INSERT INTO plugin_installs (tenant_id, plugin, installed_by)
    SELECT NEW.tenant_id, plugin, 'system:new-tenant' FROM plugin_registry WHERE default_install;
    RETURN NULL;
END $$;

-- What a verified token stands for. Returns one row: `pending`, `revoked`, `session_revoked`, or `linked` with the tenant
-- and user. A subject never seen is recorded as pending, or linked at once where the caller trusts the issuer's verified
-- e-mail and exactly one user has it. A linked subject's session is recorded, or its time renewed.
CREATE FUNCTION authenticate(
    p_issuer text, p_subject text, p_session_hash bytea, p_expires_at timestamptz, p_email text, p_link_by_email boolean,
    p_correlation_id uuid
) RETURNS TABLE (state text, tenant_id uuid, user_id uuid)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = memory, pg_temp AS $$
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

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['identities', 'user_sessions', 'user_roles', 'plugin_installs', 'cache_invalidations']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant_isolation ON %I TO memory_app '
                       'USING (tenant_id = (SELECT current_tenant_id())) '
                       'WITH CHECK (tenant_id = (SELECT current_tenant_id()))', name);
        EXECUTE format('CREATE POLICY pipeline_all_tenants ON %I TO memory_pipeline USING (true) WITH CHECK (true)', name);
    END LOOP;
    -- What the functions above read and write. memory_owner can't log in, and no process may become it.
    FOREACH name IN ARRAY ARRAY['identities', 'user_sessions', 'user_roles', 'plugin_installs', 'users', 'tenants', 'events']
    LOOP
        EXECUTE format('CREATE POLICY owner_functions ON %I TO memory_owner USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;

INSERT INTO user_roles (tenant_id, user_id, role, granted_by)
    SELECT tenant_id, user_id, 'member', 'system:migration' FROM users;
INSERT INTO plugin_installs (tenant_id, plugin, installed_by)
    SELECT tenant_id, plugin, 'system:migration' FROM tenants CROSS JOIN plugin_registry WHERE default_install;
CREATE TRIGGER users_are_members AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION grant_first_role();
CREATE TRIGGER tenants_have_plugins AFTER INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION install_default_plugins();

REVOKE EXECUTE ON FUNCTION authenticate, grant_first_role, install_default_plugins FROM PUBLIC;
GRANT EXECUTE ON FUNCTION authenticate TO memory_app, memory_pipeline;
GRANT SELECT ON installation, roles, permissions, role_permissions, user_roles, plugin_registry, plugin_installs,
    permitted_plugins TO memory_app, memory_pipeline;
GRANT SELECT ON identities, user_sessions, auth_events TO memory_pipeline;
GRANT INSERT ON auth_events TO memory_app, memory_pipeline;
GRANT INSERT, SELECT ON cache_invalidations TO memory_app;
GRANT INSERT, SELECT, DELETE ON cache_invalidations TO memory_pipeline;
GRANT UPDATE (status) ON tenants, users TO memory_pipeline;
GRANT INSERT, UPDATE ON identities TO memory_pipeline;
GRANT UPDATE (revoked_at), DELETE ON user_sessions TO memory_pipeline;
GRANT INSERT, UPDATE, DELETE ON roles, permissions, role_permissions, user_roles, plugin_registry, plugin_installs
    TO memory_pipeline;
-- Deleting a conversation takes its messages and what was derived from them along.
GRANT DELETE ON conversations, messages, memories TO memory_app;
GRANT DELETE ON conversations, messages TO memory_pipeline;
GRANT MAINTAIN ON identities, user_sessions, auth_events, user_roles, plugin_installs, cache_invalidations
    TO memory_pipeline;
