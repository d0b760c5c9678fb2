-- Rows that refer to one that is not there; Postgres has none. $days as in repeated_keys. What is said of messages and of
-- memories can be asked for days only of which those were exported: $no_messages and $no_memories are the others. A
-- relationship joins memories of any two days, so all of them have to be there ($all_memories).
SELECT 'users.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken, NULL AS first_day
FROM users AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
UNION ALL
SELECT 'conversations.user_id' AS reference, 'users' AS target, count(*) AS broken, NULL AS first_day
FROM conversations AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'messages.user_id' AS reference, 'users' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM messages WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'memories.user_id' AS reference, 'users' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM memories WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'facts.user_id' AS reference, 'users' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM facts WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'summaries.user_id' AS reference, 'users' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM summaries WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'profiles.user_id' AS reference, 'users' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM profiles WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'messages.conversation_id' AS reference, 'conversations' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM messages WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN conversations AS r ON t.tenant_id = r.tenant_id AND t.conversation_id = r.conversation_id
UNION ALL
SELECT 'jobs.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM jobs WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
UNION ALL
SELECT 'job_days.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM job_days WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
UNION ALL
SELECT 'audit_runs.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM audit_runs WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
UNION ALL
SELECT 'audit_findings.audit_id' AS reference, 'audit_runs' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM audit_findings WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN audit_runs AS r ON t.day = r.day AND t.tenant_id = r.tenant_id AND t.audit_id = r.audit_id
UNION ALL
SELECT 'audit_findings.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM audit_findings WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
UNION ALL
SELECT 'events.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM events WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
UNION ALL
SELECT 'memory_relationships.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM memory_relationships WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
UNION ALL
SELECT 'memory_access.user_id' AS reference, 'users' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM memory_access WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN users AS r ON t.tenant_id = r.tenant_id AND t.user_id = r.user_id
UNION ALL
SELECT 'llm_usage.tenant_id' AS reference, 'tenants' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM llm_usage WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS t
ANTI JOIN tenants AS r ON t.tenant_id = r.tenant_id
UNION ALL
SELECT 'memories.conversation_id' AS reference, 'conversations' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM memories WHERE conversation_id IS NOT NULL AND ($days::DATE[] IS NULL OR list_contains($days::DATE[], day))) AS t
ANTI JOIN conversations AS r ON t.tenant_id = r.tenant_id AND t.conversation_id = r.conversation_id
UNION ALL
-- A summary or profile rests on messages of many days.
SELECT 'memories.source_message_ids' AS reference, 'messages' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (
    FROM memories
    WHERE kind IN ('episode', 'fact') AND ($days::DATE[] IS NULL OR list_contains($days::DATE[], day))
      AND NOT list_contains($no_messages::DATE[], day)
) AS t
ANTI JOIN (FROM messages WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AS r
    ON t.day = r.day AND t.tenant_id = r.tenant_id AND t.source_message_ids[1] = r.message_id
UNION ALL
SELECT 'facts.fact_id' AS reference, 'memories' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (
    FROM facts
    WHERE ($days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AND NOT list_contains($no_memories::DATE[], day)
) AS t
ANTI JOIN (FROM memories WHERE kind = 'fact' AND ($days::DATE[] IS NULL OR list_contains($days::DATE[], day))) AS r
    ON t.day = r.day AND t.tenant_id = r.tenant_id AND t.fact_id = r.memory_id
UNION ALL
SELECT 'summaries.summary_id' AS reference, 'memories' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (
    FROM summaries
    WHERE ($days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AND NOT list_contains($no_memories::DATE[], day)
) AS t
ANTI JOIN (FROM memories WHERE kind = 'summary' AND ($days::DATE[] IS NULL OR list_contains($days::DATE[], day))) AS r
    ON t.day = r.day AND t.tenant_id = r.tenant_id AND t.summary_id = r.memory_id
UNION ALL
SELECT 'profiles.profile_id' AS reference, 'memories' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (
    FROM profiles
    WHERE ($days::DATE[] IS NULL OR list_contains($days::DATE[], day)) AND NOT list_contains($no_memories::DATE[], day)
) AS t
ANTI JOIN (FROM memories WHERE kind = 'profile' AND ($days::DATE[] IS NULL OR list_contains($days::DATE[], day))) AS r
    ON t.day = r.day AND t.tenant_id = r.tenant_id AND t.profile_id = r.memory_id
UNION ALL
SELECT 'memory_relationships.from_id' AS reference, 'memories' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM memory_relationships WHERE $all_memories AND ($days::DATE[] IS NULL OR list_contains($days::DATE[], day))) AS t
ANTI JOIN memories AS r ON t.tenant_id = r.tenant_id AND t.from_id = r.memory_id
UNION ALL
SELECT 'memory_relationships.to_id' AS reference, 'memories' AS target, count(*) AS broken, min(t.day) AS first_day
FROM (FROM memory_relationships WHERE $all_memories AND ($days::DATE[] IS NULL OR list_contains($days::DATE[], day))) AS t
ANTI JOIN memories AS r ON t.tenant_id = r.tenant_id AND t.to_id = r.memory_id
