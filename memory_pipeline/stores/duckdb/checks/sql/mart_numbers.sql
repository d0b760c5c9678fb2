-- Numbers that the marts give, by tenant; stores/postgres/sql/check_mart_numbers.sql works out the same from the record.
SELECT 'messages' AS number, tenant_id, sum(messages) AS value FROM mart_daily_activity GROUP BY tenant_id
UNION ALL
SELECT 'messages of users', tenant_id, sum(user_messages) FROM mart_user_daily GROUP BY tenant_id
UNION ALL
SELECT 'active days of users', tenant_id, count(*) FROM mart_user_daily WHERE messages > 0 GROUP BY tenant_id
UNION ALL
SELECT 'active memories', tenant_id, sum(memories) FROM mart_memory_growth WHERE status = 'active' GROUP BY tenant_id
UNION ALL
SELECT 'facts that hold', tenant_id, count(*) FROM mart_fact_catalogue WHERE valid_to IS NULL GROUP BY tenant_id
UNION ALL
SELECT 'facts that ended', tenant_id, sum(ended) FROM mart_fact_churn GROUP BY tenant_id
UNION ALL
SELECT 'users who wrote', tenant_id, sum(users) FROM mart_retention WHERE weeks_later = 0 GROUP BY tenant_id
UNION ALL
SELECT 'completed jobs', tenant_id, sum(completed) FROM mart_pipeline_response GROUP BY tenant_id
UNION ALL
SELECT 'tries of jobs', tenant_id, sum(attempts) FROM mart_pipeline_response GROUP BY tenant_id
UNION ALL
SELECT 'findings', tenant_id, sum(findings) FROM mart_data_quality GROUP BY tenant_id
UNION ALL
SELECT 'recalls', tenant_id, sum(recalls) FROM mart_recall_use GROUP BY tenant_id
UNION ALL
SELECT 'recalls with a memory', tenant_id, sum(answered) FROM mart_recall_use GROUP BY tenant_id
UNION ALL
SELECT 'degraded recalls', tenant_id, sum(degraded) FROM mart_recall_use GROUP BY tenant_id
UNION ALL
SELECT 'tokens', tenant_id, sum(tokens) FROM mart_cost_daily GROUP BY tenant_id
UNION ALL
SELECT 'ten-billionths of a dollar', tenant_id, coalesce(sum(cost_usd), 0) * 10000000000 FROM mart_cost_daily GROUP BY tenant_id
UNION ALL
SELECT 'calls without a price', tenant_id, sum(rows_without_price) FROM mart_cost_daily GROUP BY tenant_id
