-- The numbers of stores/duckdb/checks/sql/mart_numbers.sql, worked out from the record itself.
SELECT 'messages' AS number, tenant_id, count(*) AS value FROM messages GROUP BY tenant_id
UNION ALL
SELECT 'messages of users', tenant_id, count(*) FILTER (WHERE role = 'user') FROM messages GROUP BY tenant_id
UNION ALL
SELECT 'active days of users', tenant_id, count(DISTINCT (user_id, (sent_at AT TIME ZONE 'UTC')::date))
FROM messages
GROUP BY tenant_id
UNION ALL
SELECT 'active memories', tenant_id, count(*) FROM memories WHERE status = 'active' GROUP BY tenant_id
UNION ALL
SELECT 'facts that hold', tenant_id, count(*)
FROM memories
WHERE kind = 'fact' AND status <> 'deleted' AND valid_to IS NULL
GROUP BY tenant_id
UNION ALL
SELECT 'facts that ended', tenant_id, count(*)
FROM memories
WHERE kind = 'fact' AND status <> 'deleted' AND valid_to IS NOT NULL
GROUP BY tenant_id
UNION ALL
SELECT 'users who wrote', tenant_id, count(DISTINCT user_id) FROM messages WHERE role = 'user' GROUP BY tenant_id
UNION ALL
SELECT 'completed jobs', tenant_id, sum(completed)
FROM (
    SELECT tenant_id, count(*) AS completed FROM memory_jobs WHERE state = 'completed' GROUP BY tenant_id
    UNION ALL
    SELECT tenant_id, completed FROM memory_job_days
) AS done
GROUP BY tenant_id
UNION ALL
SELECT 'tries of jobs', tenant_id, sum(attempts)
FROM (
    SELECT tenant_id, attempts FROM memory_jobs
    UNION ALL
    SELECT tenant_id, attempts FROM memory_job_days
) AS tries
GROUP BY tenant_id
UNION ALL
SELECT 'findings', tenant_id, sum(findings)
FROM (
    SELECT tenant_id, coalesce(max((detail ->> 'in_all')::bigint), count(*)) AS findings
    FROM audit_findings
    GROUP BY tenant_id, audit_id, store, problem
) AS problems
GROUP BY tenant_id
UNION ALL
SELECT 'recalls', tenant_id, count(*) FROM memory_access_log WHERE what = 'recall' GROUP BY tenant_id
UNION ALL
SELECT 'recalls with a memory', tenant_id, count(*) FILTER (WHERE cardinality(memory_ids) > 0)
FROM memory_access_log
WHERE what = 'recall'
GROUP BY tenant_id
UNION ALL
SELECT 'degraded recalls', tenant_id, count(*) FILTER (WHERE cardinality(degraded_parts) > 0)
FROM memory_access_log
WHERE what = 'recall'
GROUP BY tenant_id
UNION ALL
SELECT 'tokens', tenant_id, coalesce(sum(prompt_tokens), 0) + sum(completion_tokens) FROM llm_usage GROUP BY tenant_id
UNION ALL
SELECT 'ten-billionths of a dollar', tenant_id, coalesce(sum(cost_usd), 0) * 10000000000 FROM llm_usage GROUP BY tenant_id
UNION ALL
SELECT 'calls without a price', tenant_id, count(*) FILTER (WHERE cost_usd IS NULL) FROM llm_usage GROUP BY tenant_id
