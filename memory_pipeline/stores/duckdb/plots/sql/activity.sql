WITH shown AS (
    SELECT * FROM mart_daily_activity WHERE day > (SELECT max(day) FROM mart_daily_activity) - 90
), ranked AS (
    SELECT tenant_id, row_number() OVER (ORDER BY sum(messages) DESC, tenant_id) AS place, count(*) OVER () AS tenants
    FROM shown
    GROUP BY tenant_id
)
SELECT CASE WHEN r.place <= 8 THEN s.tenant
            WHEN r.tenants = 9 THEN '1 other'
            ELSE concat(r.tenants - 8, ' others') END AS series,
       s.day, sum(s.messages)::BIGINT AS messages
FROM shown s
JOIN ranked r USING (tenant_id)
GROUP BY series, s.day
ORDER BY min(r.place), s.day
