-- Keys that come more than once, by table. $days NULL asks for all rows, else only for keys of rows of those days.
SELECT 'tenants' AS table_name, count(*) AS repeated, NULL AS first_day
FROM (
    SELECT 1 FROM tenants AS t
    GROUP BY tenant_id
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'users' AS table_name, count(*) AS repeated, NULL AS first_day
FROM (
    SELECT 1 FROM users AS t
    GROUP BY tenant_id, user_id
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'conversations' AS table_name, count(*) AS repeated, NULL AS first_day
FROM (
    SELECT 1 FROM conversations AS t
    GROUP BY tenant_id, conversation_id
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'messages' AS table_name, count(*) AS repeated, min(day) AS first_day
FROM (
    SELECT min(day) AS day FROM messages AS t
    WHERE $days::DATE[] IS NULL OR (tenant_id, message_id) IN (SELECT (tenant_id, message_id) FROM messages WHERE list_contains($days::DATE[], day))
    GROUP BY tenant_id, message_id
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'memories' AS table_name, count(*) AS repeated, min(day) AS first_day
FROM (
    SELECT min(day) AS day FROM memories AS t
    WHERE $days::DATE[] IS NULL OR (tenant_id, memory_id) IN (SELECT (tenant_id, memory_id) FROM memories WHERE list_contains($days::DATE[], day))
    GROUP BY tenant_id, memory_id
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'facts' AS table_name, count(*) AS repeated, min(day) AS first_day
FROM (
    SELECT min(day) AS day FROM facts AS t
    WHERE $days::DATE[] IS NULL OR (tenant_id, fact_id) IN (SELECT (tenant_id, fact_id) FROM facts WHERE list_contains($days::DATE[], day))
    GROUP BY tenant_id, fact_id
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'memory_relationships' AS table_name, count(*) AS repeated, min(day) AS first_day
FROM (
    SELECT min(day) AS day FROM memory_relationships AS t
    WHERE $days::DATE[] IS NULL OR (tenant_id, from_id, to_id, kind) IN (SELECT (tenant_id, from_id, to_id, kind) FROM memory_relationships WHERE list_contains($days::DATE[], day))
    GROUP BY tenant_id, from_id, to_id, kind
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'summaries' AS table_name, count(*) AS repeated, min(day) AS first_day
FROM (
    SELECT min(day) AS day FROM summaries AS t
    WHERE $days::DATE[] IS NULL OR (tenant_id, summary_id) IN (SELECT (tenant_id, summary_id) FROM summaries WHERE list_contains($days::DATE[], day))
    GROUP BY tenant_id, summary_id
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'profiles' AS table_name, count(*) AS repeated, min(day) AS first_day
FROM (
    SELECT min(day) AS day FROM profiles AS t
    WHERE $days::DATE[] IS NULL OR (tenant_id, profile_id) IN (SELECT (tenant_id, profile_id) FROM profiles WHERE list_contains($days::DATE[], day))
    GROUP BY tenant_id, profile_id
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'jobs' AS table_name, count(*) AS repeated, min(day) AS first_day
FROM (
    SELECT min(day) AS day FROM jobs AS t
    WHERE $days::DATE[] IS NULL OR (tenant_id, job_id) IN (SELECT (tenant_id, job_id) FROM jobs WHERE list_contains($days::DATE[], day))
    GROUP BY tenant_id, job_id
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'job_days' AS table_name, count(*) AS repeated, min(day) AS first_day
FROM (
    SELECT day FROM job_days AS t
    WHERE $days::DATE[] IS NULL OR list_contains($days::DATE[], day)
    GROUP BY day, tenant_id, job_type, lag_bucket
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'audit_runs' AS table_name, count(*) AS repeated, min(day) AS first_day
FROM (
    SELECT min(day) AS day FROM audit_runs AS t
    WHERE $days::DATE[] IS NULL OR (tenant_id, audit_id) IN (SELECT (tenant_id, audit_id) FROM audit_runs WHERE list_contains($days::DATE[], day))
    GROUP BY tenant_id, audit_id
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'audit_findings' AS table_name, count(*) AS repeated, min(day) AS first_day
FROM (
    SELECT min(day) AS day FROM audit_findings AS t
    WHERE $days::DATE[] IS NULL OR (tenant_id, finding_id) IN (SELECT (tenant_id, finding_id) FROM audit_findings WHERE list_contains($days::DATE[], day))
    GROUP BY tenant_id, finding_id
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'events' AS table_name, count(*) AS repeated, min(day) AS first_day
FROM (
    SELECT min(day) AS day FROM events AS t
    WHERE $days::DATE[] IS NULL OR (tenant_id, event_id) IN (SELECT (tenant_id, event_id) FROM events WHERE list_contains($days::DATE[], day))
    GROUP BY tenant_id, event_id
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'memory_access' AS table_name, count(*) AS repeated, min(day) AS first_day
FROM (
    SELECT min(day) AS day FROM memory_access AS t
    WHERE $days::DATE[] IS NULL OR (tenant_id, access_id) IN (SELECT (tenant_id, access_id) FROM memory_access WHERE list_contains($days::DATE[], day))
    GROUP BY tenant_id, access_id
    HAVING count(*) > 1
) AS again
UNION ALL
SELECT 'llm_usage' AS table_name, count(*) AS repeated, min(day) AS first_day
FROM (
    SELECT min(day) AS day FROM llm_usage AS t
    WHERE $days::DATE[] IS NULL OR (tenant_id, usage_id) IN (SELECT (tenant_id, usage_id) FROM llm_usage WHERE list_contains($days::DATE[], day))
    GROUP BY tenant_id, usage_id
    HAVING count(*) > 1
) AS again
