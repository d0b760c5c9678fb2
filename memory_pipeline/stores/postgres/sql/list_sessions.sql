-- The sessions of one user whose tokens have not expired, the last used first.
SELECT session_hash, issuer, subject, created_at, last_seen_at, expires_at, revoked_at
FROM user_sessions
WHERE (tenant_id, user_id) = (%(tenant_id)s, %(user_id)s) AND expires_at > clock_timestamp()
ORDER BY last_seen_at DESC, session_hash
LIMIT %(limit)s
