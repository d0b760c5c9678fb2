-- The function `authenticate` of 0002 anew: its variable `found` hid the FOUND that tells whether a row was there, so
-- every call failed. What it does is what 0002 says.
CREATE OR REPLACE FUNCTION authenticate(
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
