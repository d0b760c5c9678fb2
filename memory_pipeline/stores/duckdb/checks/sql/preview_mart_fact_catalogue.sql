SELECT tenant, count(*) AS facts, count(DISTINCT user_id) AS users, count(*) FILTER (valid_to IS NULL) AS holding,
       count(*) FILTER (superseded_by IS NOT NULL) AS superseded, count(*) FILTER (negated) AS negated,
       round(avg(confidence), 2) AS mean_confidence, round(median(valid_days), 1) AS median_valid_days
FROM mart_fact_catalogue
GROUP BY tenant_id, tenant
ORDER BY facts DESC, tenant
LIMIT 10
