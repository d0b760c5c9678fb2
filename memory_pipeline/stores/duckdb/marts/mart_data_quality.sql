-- What audits found wrong, by store and problem. Days on which every store agreed have no row.
-- Key: day, tenant_id, store, problem
CREATE OR REPLACE TABLE mart_data_quality AS
WITH problems AS (
    SELECT day, tenant_id, audit_id, store, problem, max(in_all) AS findings, count(*) FILTER (repaired) AS repaired
    FROM audit_findings
    GROUP BY day, tenant_id, audit_id, store, problem
)
SELECT a.day, a.tenant_id, t.slug AS tenant, a.store, a.problem,
       sum(a.findings)::BIGINT AS findings,
       sum(a.repaired)::BIGINT AS repaired,
       count(*) AS audits
FROM problems a
JOIN tenants t USING (tenant_id)
GROUP BY a.day, a.tenant_id, t.slug, a.store, a.problem
ORDER BY a.day, a.tenant_id, a.store, a.problem;
COMMENT ON TABLE mart_data_quality IS 'Trend of data quality: what audits found, one row per tenant, UTC day, store and problem.';
COMMENT ON COLUMN mart_data_quality.day IS 'UTC day of the audits.'; -- DATE from audit_findings.day
COMMENT ON COLUMN mart_data_quality.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from audit_findings.tenant_id
COMMENT ON COLUMN mart_data_quality.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_data_quality.store IS 'Which store was wrong.'; -- VARCHAR from audit_findings.store
COMMENT ON COLUMN mart_data_quality.problem IS 'What was wrong with it.'; -- VARCHAR from audit_findings.problem
COMMENT ON COLUMN mart_data_quality.findings IS 'Findings, those that were counted and not listed included; of several audits the sum.'; -- BIGINT from audit_findings.in_all
COMMENT ON COLUMN mart_data_quality.repaired IS 'Listed findings that were put right.'; -- BIGINT from audit_findings.repaired
COMMENT ON COLUMN mart_data_quality.audits IS 'Audits that found any.'; -- BIGINT from audit_findings.audit_id
