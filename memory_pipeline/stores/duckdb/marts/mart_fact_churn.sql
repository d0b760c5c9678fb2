-- How many facts began and ended on each day, and how many held at its end: all that ever began less all that ended.
-- Key: day, tenant_id
CREATE OR REPLACE TABLE mart_fact_churn AS
WITH changes AS (
    SELECT (valid_from AT TIME ZONE 'UTC')::DATE AS day, tenant_id, 1 AS began, 0 AS ended
    FROM facts
    UNION ALL
    SELECT (valid_to AT TIME ZONE 'UTC')::DATE, tenant_id, 0, 1
    FROM facts
    WHERE valid_to IS NOT NULL
)
SELECT c.day, c.tenant_id, t.slug AS tenant,
       sum(c.began)::BIGINT AS began,
       sum(c.ended)::BIGINT AS ended,
       sum(sum(c.began) - sum(c.ended)) OVER (PARTITION BY c.tenant_id ORDER BY c.day)::BIGINT AS holding
FROM changes c
JOIN tenants t USING (tenant_id)
GROUP BY c.day, c.tenant_id, t.slug
ORDER BY c.day, c.tenant_id;
COMMENT ON TABLE mart_fact_churn IS 'How many facts began and ended to hold: one row per tenant and UTC day with either.';
COMMENT ON COLUMN mart_fact_churn.day IS 'UTC day.'; -- DATE from facts.valid_from, facts.valid_to
COMMENT ON COLUMN mart_fact_churn.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from facts.tenant_id
COMMENT ON COLUMN mart_fact_churn.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_fact_churn.began IS 'Facts that hold from this day on.'; -- BIGINT from facts.valid_from
COMMENT ON COLUMN mart_fact_churn.ended IS 'Facts that held until this day.'; -- BIGINT from facts.valid_to
COMMENT ON COLUMN mart_fact_churn.holding IS 'Facts that hold at the end of the day.'; -- BIGINT from facts.valid_from, facts.valid_to
