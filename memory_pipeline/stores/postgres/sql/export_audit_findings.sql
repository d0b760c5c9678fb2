-- Of a problem at most some are listed; each says how many there were in that audit and tenant. Older ones that do not were
-- all listed, as far as can be told.
SELECT (r.started_at AT TIME ZONE 'UTC')::date AS day, f.tenant_id, f.finding_id, f.audit_id,
       r.started_at AS audited_at, f.store, f.problem, f.subject_id, f.detail, f.repaired,
       coalesce((f.detail ->> 'in_all')::bigint,
                count(*) OVER (PARTITION BY f.tenant_id, f.audit_id, f.store, f.problem)) AS in_all
FROM audit_findings f
JOIN audit_runs r USING (audit_id)
WHERE r.started_at >= current_setting('export.start_time')::timestamptz
  AND r.started_at < current_setting('export.end_time')::timestamptz
ORDER BY r.started_at, f.tenant_id, f.finding_id
