-- What audits found wrong, by store and problem. Days on which every store agreed have no row.
-- Key: day, tenant_id, store, problem
CREATE OR REPLACE TABLE mart_data_quality AS
SELECT a.day, a.tenant_id, t.slug AS tenant, a.store, a.problem,
       count(*) AS findings,
       count(*) FILTER (a.repaired) AS repaired,
       count(DISTINCT a.audit_id) AS audits
FROM audit_findings a
JOIN tenants t USING (tenant_id)
GROUP BY a.day, a.tenant_id, t.slug, a.store, a.problem
ORDER BY a.day, a.tenant_id, a.store, a.problem;
COMMENT ON TABLE mart_data_quality IS 'Trend of data quality: what audits found, one row per tenant, UTC day, store and problem.';
COMMENT ON COLUMN mart_data_quality.day IS 'UTC day of the audits.'; -- DATE from audit_findings.day
COMMENT ON COLUMN mart_data_quality.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from audit_findings.tenant_id
COMMENT ON COLUMN mart_data_quality.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_data_quality.store IS 'Which store was wrong.'; -- VARCHAR from audit_findings.store
COMMENT ON COLUMN mart_data_quality.problem IS 'What was wrong with it.'; -- VARCHAR from audit_findings.problem
COMMENT ON COLUMN mart_data_quality.findings IS 'Findings listed (at most 100 per audit, tenant and problem).'; -- BIGINT from audit_findings.finding_id
COMMENT ON COLUMN mart_data_quality.repaired IS 'Those of them that were put right.'; -- BIGINT from audit_findings.repaired
COMMENT ON COLUMN mart_data_quality.audits IS 'Audits that found any.'; -- BIGINT from audit_findings.audit_id
