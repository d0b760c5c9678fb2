-- Table by table of a published file: rows, rows without a key, and rows whose key is there already.
SELECT 'tenants' AS table_name, count(*) AS rows, count(*) FILTER (WHERE tenant_id IS NULL) AS without_key,
       count(*) - count(DISTINCT tenant_id) AS repeated
FROM tenants
UNION ALL
SELECT 'users', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR user_id IS NULL),
       count(*) - count(DISTINCT (tenant_id, user_id))
FROM users
UNION ALL
SELECT 'conversations', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR conversation_id IS NULL),
       count(*) - count(DISTINCT (tenant_id, conversation_id))
FROM conversations
UNION ALL
SELECT 'messages', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR message_id IS NULL),
       count(*) - count(DISTINCT (tenant_id, message_id))
FROM messages
UNION ALL
SELECT 'memories', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR memory_id IS NULL),
       count(*) - count(DISTINCT (tenant_id, memory_id))
FROM memories
UNION ALL
SELECT 'facts', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR fact_id IS NULL),
       count(*) - count(DISTINCT (tenant_id, fact_id))
FROM facts
UNION ALL
SELECT 'memory_relationships', count(*),
       count(*) FILTER (WHERE tenant_id IS NULL OR from_id IS NULL OR to_id IS NULL OR kind IS NULL),
       count(*) - count(DISTINCT (tenant_id, from_id, to_id, kind))
FROM memory_relationships
UNION ALL
SELECT 'summaries', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR summary_id IS NULL),
       count(*) - count(DISTINCT (tenant_id, summary_id))
FROM summaries
UNION ALL
SELECT 'profiles', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR profile_id IS NULL),
       count(*) - count(DISTINCT (tenant_id, profile_id))
FROM profiles
UNION ALL
SELECT 'jobs', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR job_id IS NULL),
       count(*) - count(DISTINCT (tenant_id, job_id))
FROM jobs
UNION ALL
SELECT 'job_days', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR job_type IS NULL OR lag_bucket IS NULL),
       count(*) - count(DISTINCT (day, tenant_id, job_type, lag_bucket))
FROM job_days
UNION ALL
SELECT 'audit_runs', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR audit_id IS NULL),
       count(*) - count(DISTINCT (tenant_id, audit_id))
FROM audit_runs
UNION ALL
SELECT 'audit_findings', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR finding_id IS NULL),
       count(*) - count(DISTINCT (tenant_id, finding_id))
FROM audit_findings
UNION ALL
SELECT 'events', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR event_id IS NULL),
       count(*) - count(DISTINCT (tenant_id, event_id))
FROM events
UNION ALL
SELECT 'memory_access', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR access_id IS NULL),
       count(*) - count(DISTINCT (tenant_id, access_id))
FROM memory_access
UNION ALL
SELECT 'llm_usage', count(*), count(*) FILTER (WHERE tenant_id IS NULL OR usage_id IS NULL),
       count(*) - count(DISTINCT (tenant_id, usage_id))
FROM llm_usage
