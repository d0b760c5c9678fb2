-- On how many of the days that were audited did every store agree?
--
-- Shares of days can't be seen from findings alone: a day without any may be one that nobody audited. Audits that did not
-- note what they looked for count only where they found something.
WITH days AS (
    SELECT tenant_id, day, sum(findings) AS findings
    FROM mart_data_quality
    GROUP BY tenant_id, day
)
SELECT t.slug AS tenant,
       count(d.day) AS days_audited,
       count(d.day) FILTER (d.findings = 0) AS days_without_findings,
       round(count(d.day) FILTER (d.findings = 0) / nullif(count(d.day), 0), 3) AS share,
       max(d.day) AS last_audited,
       max(d.day) FILTER (d.findings > 0) AS last_found
FROM tenants t
LEFT JOIN days d USING (tenant_id)
GROUP BY t.slug
ORDER BY share, tenant
