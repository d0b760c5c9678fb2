-- Rows that a complete export has: the conditions of the export_*.sql statements, over all days. But not audit_runs:
-- every audit adds to them, also where nothing changed, and often after the last export.
SELECT 'messages' AS table_name, count(*) AS rows FROM messages
UNION ALL
SELECT 'memories', count(*) FROM memories WHERE status <> 'deleted'
UNION ALL
SELECT 'facts', count(*) FROM memories WHERE status <> 'deleted' AND kind = 'fact'
UNION ALL
SELECT 'summaries', count(*) FROM memories WHERE status <> 'deleted' AND kind = 'summary'
UNION ALL
SELECT 'memory_relationships', count(*) FROM memory_relationships r
WHERE NOT EXISTS (SELECT FROM memories m
                  WHERE m.status = 'deleted' AND m.tenant_id = r.tenant_id AND m.memory_id = r.from_id)
  AND NOT EXISTS (SELECT FROM memories m
                  WHERE m.status = 'deleted' AND m.tenant_id = r.tenant_id AND m.memory_id = r.to_id)
UNION ALL
SELECT 'profiles', count(*) FROM memories WHERE status <> 'deleted' AND kind = 'profile'
UNION ALL
SELECT 'jobs', count(*) FROM memory_jobs
UNION ALL
SELECT 'job_days', count(*) FROM memory_job_days
UNION ALL
SELECT 'audit_findings', count(*) FROM audit_findings
UNION ALL
SELECT 'events', count(*) FROM events
UNION ALL
SELECT 'memory_access', count(*) FROM memory_access_log
UNION ALL
SELECT 'llm_usage', count(*) FROM llm_usage
