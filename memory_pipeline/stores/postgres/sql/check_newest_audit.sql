-- The audit that finished last, with its listed findings by store and problem.
SELECT r.audit_id, r.finished_at, r.findings,
       ARRAY(SELECT DISTINCT f.store || ': ' || f.problem FROM audit_findings f WHERE f.audit_id = r.audit_id ORDER BY 1)
           AS problems
FROM audit_runs r
WHERE r.finished_at IS NOT NULL
ORDER BY r.finished_at DESC, r.audit_id DESC
LIMIT 1
