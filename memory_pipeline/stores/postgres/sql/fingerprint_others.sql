-- As fingerprint_messages; a dimension has one fingerprint, without a day.
SELECT 'memory_relationships' AS table_name, day, count(*) AS rows,
       sum(hash_record_extended(ROW(from_id, to_id, kind, created_at, r.xmin), 0)) AS digest
FROM memory_relationships r
WHERE NOT EXISTS (SELECT FROM memories m
                  WHERE m.status = 'deleted' AND m.tenant_id = r.tenant_id AND m.memory_id = r.from_id)
  AND NOT EXISTS (SELECT FROM memories m
                  WHERE m.status = 'deleted' AND m.tenant_id = r.tenant_id AND m.memory_id = r.to_id)
GROUP BY 2
UNION ALL
SELECT 'jobs', (created_at AT TIME ZONE 'UTC')::date, count(*), sum(hash_record_extended(ROW(job_id, xmin), 0))
FROM memory_jobs
GROUP BY 2
UNION ALL
SELECT 'job_days', day, count(*), sum(hash_record_extended(ROW(tenant_id, job_type, lag_bucket, xmin), 0))
FROM memory_job_days
GROUP BY 2
UNION ALL
-- A row per tenant, as in export_audit_runs; it counts the findings.
SELECT 'audit_runs', day, sum(rows)::bigint, sum(digest)
FROM (
    SELECT (r.started_at AT TIME ZONE 'UTC')::date AS day, count(*) AS rows,
           sum(hash_record_extended(ROW(r.audit_id, t.tenant_id, r.started_at, r.xmin), 0)) AS digest
    FROM audit_runs r
    CROSS JOIN tenants t
    WHERE t.created_at <= r.started_at
       OR (r.audit_id, t.tenant_id) IN (SELECT audit_id, tenant_id FROM audit_findings)
    GROUP BY 1
    UNION ALL
    SELECT (r.started_at AT TIME ZONE 'UTC')::date, 0, sum(hash_record_extended(ROW(f.finding_id, f.xmin), 0))
    FROM audit_findings f
    JOIN audit_runs r USING (audit_id)
    GROUP BY 1
) AS runs
GROUP BY day
UNION ALL
SELECT 'audit_findings', (r.started_at AT TIME ZONE 'UTC')::date, count(*),
       sum(hash_record_extended(ROW(f.finding_id, f.xmin, r.started_at), 0))
FROM audit_findings f
JOIN audit_runs r USING (audit_id)
GROUP BY 2
UNION ALL
SELECT 'events', (occurred_at AT TIME ZONE 'UTC')::date, count(*), sum(hash_record_extended(ROW(event_id, xmin), 0))
FROM events
GROUP BY 2
UNION ALL
SELECT 'memory_access', (accessed_at AT TIME ZONE 'UTC')::date, count(*),
       sum(hash_record_extended(ROW(access_id, xmin), 0))
FROM memory_access_log
GROUP BY 2
UNION ALL
SELECT 'llm_usage', (used_at AT TIME ZONE 'UTC')::date, count(*), sum(hash_record_extended(ROW(usage_id, xmin), 0))
FROM llm_usage
GROUP BY 2
UNION ALL
SELECT 'tenants', NULL, count(*), sum(hash_record_extended(ROW(tenant_id, created_at, xmin), 0))
FROM tenants
UNION ALL
SELECT 'users', NULL, count(*), sum(hash_record_extended(ROW(user_id, created_at, xmin), 0))
FROM users
UNION ALL
SELECT 'conversations', NULL, count(*), sum(hash_record_extended(ROW(tenant_id, conversation_id, created_at, xmin), 0))
FROM conversations
