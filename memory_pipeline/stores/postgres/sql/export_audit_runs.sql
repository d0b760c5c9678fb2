-- An audit looks at all tenants: a row for each that was there when it began, or of which it found something. What it
-- counts over all of them (vectors, tenants) is left out, because a tenant's file may say nothing of the others.
WITH runs AS (
    SELECT *
    FROM audit_runs
    WHERE started_at >= current_setting('export.start_time')::timestamptz
      AND started_at < current_setting('export.end_time')::timestamptz
), problems AS (
    SELECT f.audit_id, f.tenant_id, coalesce(max((f.detail ->> 'in_all')::bigint), count(*)) AS findings
    FROM audit_findings f
    JOIN runs r USING (audit_id)
    GROUP BY f.audit_id, f.tenant_id, f.store, f.problem
), found AS (
    SELECT audit_id, tenant_id, sum(findings)::bigint AS findings
    FROM problems
    GROUP BY audit_id, tenant_id
)
SELECT (r.started_at AT TIME ZONE 'UTC')::date AS day, t.tenant_id, r.audit_id, r.started_at, r.finished_at,
       r.checked ->> 'model' AS model,
       ARRAY(SELECT jsonb_array_elements_text(coalesce(r.checked -> 'looked_for', '[]'))) AS looked_for,
       coalesce(f.findings, 0) AS findings
FROM runs r
CROSS JOIN tenants t
LEFT JOIN found f ON f.audit_id = r.audit_id AND f.tenant_id = t.tenant_id
WHERE t.created_at <= r.started_at OR f.audit_id IS NOT NULL
ORDER BY r.started_at, t.tenant_id, r.audit_id
