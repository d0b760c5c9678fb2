WITH counted AS (
    SELECT tenant_id, tenant, count(*) AS facts, count(*) FILTER (valid_to IS NULL) AS holding,
           row_number() OVER (ORDER BY count(*) DESC, tenant_id) AS place, count(*) OVER () AS tenants
    FROM mart_fact_catalogue
    GROUP BY tenant_id, tenant
)
SELECT CASE WHEN place <= 8 THEN tenant
            WHEN tenants = 9 THEN '1 other'
            ELSE concat(tenants - 8, ' others') END AS series,
       sum(holding)::BIGINT AS holding, sum(facts - holding)::BIGINT AS ended
FROM counted
GROUP BY series
ORDER BY min(place)
