-- What is known now of the user of whom most is known?
--
-- For another user, put `c.email = 'ana@example.org'` in place of the comparison with `best_known`.
WITH best_known AS (
    SELECT tenant_id, user_id
    FROM mart_fact_catalogue
    WHERE is_active AND valid_to IS NULL
    GROUP BY tenant_id, user_id
    ORDER BY count(*) DESC, tenant_id, user_id
    LIMIT 1
)
SELECT c.email, c.statement, (c.valid_from AT TIME ZONE 'UTC')::DATE AS since, round(c.confidence::DOUBLE, 2) AS confidence
FROM mart_fact_catalogue c
JOIN best_known USING (tenant_id, user_id)
WHERE c.is_active AND c.valid_to IS NULL
ORDER BY c.valid_from, c.statement
LIMIT 100
