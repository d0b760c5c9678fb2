-- Rows that refer to one that is not there; Postgres allows none. $days as in repeated_keys.
SELECT 'users.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken
FROM users AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
UNION ALL
SELECT 'conversations.user_id' AS reference, 'users' AS target, count(*) AS broken
FROM conversations AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'messages.user_id' AS reference, 'users' AS target, count(*) AS broken
FROM (FROM messages WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'memories.user_id' AS reference, 'users' AS target, count(*) AS broken
FROM (FROM memories WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'facts.user_id' AS reference, 'users' AS target, count(*) AS broken
FROM (FROM facts WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'summaries.user_id' AS reference, 'users' AS target, count(*) AS broken
FROM (FROM summaries WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'profiles.user_id' AS reference, 'users' AS target, count(*) AS broken
FROM (FROM profiles WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'messages.conversation_id' AS reference, 'conversations' AS target, count(*) AS broken
FROM (FROM messages WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN conversations AS r ON t.tenant_id = r.tenant_id AND t.conversation_id = r.conversation_id
UNION ALL
SELECT 'jobs.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken
FROM (FROM jobs WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
UNION ALL
SELECT 'audit_findings.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken
FROM (FROM audit_findings WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
UNION ALL
SELECT 'events.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken
FROM (FROM events WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
UNION ALL
SELECT 'memory_relationships.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken
FROM (FROM memory_relationships WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
UNION ALL
SELECT 'memory_access.user_id' AS reference, 'users' AS target, count(*) AS broken
FROM (FROM memory_access WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'llm_usage.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken
FROM (FROM llm_usage WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
