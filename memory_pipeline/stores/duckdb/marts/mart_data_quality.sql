-- What audits looked for and found, by store and problem: 0 findings where they looked and the store agreed. Days without
-- an audit have no row.
-- Key: day, tenant_id, store, problem
CREATE OR REPLACE TABLE mart_data_quality AS
WITH looked AS (
    SELECT DISTINCT day, tenant_id, audit_id, split_part(kind, ': ', 1) AS store, split_part(kind, ': ', 2) AS problem
    FROM (SELECT day, tenant_id, audit_id, unnest(looked_for) AS kind FROM audit_runs WHERE finished_at IS NOT NULL) AS kinds
), unseen AS (
    -- An index that is not there can't be compared: of it nothing else was found out.
    SELECT DISTINCT day, tenant_id, audit_id, store
    FROM audit_findings
    WHERE problem IN ('index_missing', 'collection_lost')
), found AS (
    SELECT day, tenant_id, audit_id, store, problem, max(in_all) AS findings, count(*) FILTER (repaired) AS repaired
    FROM audit_findings
    GROUP BY day, tenant_id, audit_id, store, problem
), audited AS (
    SELECT day, tenant_id, store, problem, coalesce(findings, 0) AS findings, coalesce(repaired, 0) AS repaired
    FROM (FROM looked ANTI JOIN unseen USING (day, tenant_id, audit_id, store)) AS looked
    FULL JOIN found USING (day, tenant_id, audit_id, store, problem)
)
SELECT a.day, a.tenant_id, t.slug AS tenant, a.store, a.problem,
       sum(a.findings)::BIGINT AS findings,
       sum(a.repaired)::BIGINT AS repaired,
       count(*) AS audits
FROM audited a
JOIN tenants t USING (tenant_id)
GROUP BY a.day, a.tenant_id, t.slug, a.store, a.problem
ORDER BY a.day, a.tenant_id, a.store, a.problem;
COMMENT ON TABLE mart_data_quality IS 'Trend of data quality: what audits looked for and found, one row per tenant, UTC day, store and problem.';
COMMENT ON COLUMN mart_data_quality.day IS 'UTC day of the audits.'; -- DATE from audit_runs.day, audit_findings.day
COMMENT ON COLUMN mart_data_quality.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from audit_runs.tenant_id, audit_findings.tenant_id
COMMENT ON COLUMN mart_data_quality.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_data_quality.store IS 'Which store was looked at.'; -- VARCHAR from audit_runs.looked_for, audit_findings.store
COMMENT ON COLUMN mart_data_quality.problem IS 'What was looked for in it.'; -- VARCHAR from audit_runs.looked_for, audit_findings.problem
COMMENT ON COLUMN mart_data_quality.findings IS 'Findings, those that were counted and not listed included; of several audits the sum; 0: the store agreed.'; -- BIGINT from audit_findings.in_all
COMMENT ON COLUMN mart_data_quality.repaired IS 'Listed findings that were put right.'; -- BIGINT from audit_findings.repaired
COMMENT ON COLUMN mart_data_quality.audits IS 'Audits that looked for it and ended, or that found any.'; -- BIGINT from audit_runs.audit_id, audit_runs.finished_at, audit_findings.audit_id
