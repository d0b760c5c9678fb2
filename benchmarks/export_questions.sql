-- Questions an analyst asks of the published file, each of them timed.
SELECT day, sum(messages) FROM mart_daily_activity GROUP BY day ORDER BY day DESC LIMIT 30;
SELECT tenant, sum(messages), max(users) FROM mart_daily_activity GROUP BY tenant ORDER BY 2 DESC;
SELECT date_trunc('month', day) AS month, count(DISTINCT user_id) FROM mart_user_daily GROUP BY month ORDER BY month;
SELECT kind, status, sum(memories) FROM mart_memory_growth GROUP BY ALL ORDER BY ALL;
SELECT weeks_later, sum(users) / sum(cohort_users) FROM mart_retention GROUP BY weeks_later ORDER BY weeks_later;
SELECT predicate, count(*), avg(valid_days) FROM mart_fact_catalogue GROUP BY predicate ORDER BY 2 DESC;
SELECT day, sum(began), sum(ended) FROM mart_fact_churn GROUP BY day ORDER BY day DESC LIMIT 30;
SELECT job_type, max(lag_p95_seconds), sum(failed) / sum(jobs) FROM mart_pipeline_response GROUP BY job_type;
SELECT week, name, sum(facts) FROM mart_weekly_topics WHERE kind = 'entity' GROUP BY ALL ORDER BY week DESC, 3 DESC LIMIT 20;
SELECT d.weekday, avg(a.messages) FROM mart_daily_activity a JOIN dim_days d USING (day) GROUP BY d.weekday;
SELECT statement, valid_from FROM mart_fact_catalogue WHERE is_active AND object = 'Lisbon' ORDER BY valid_from DESC LIMIT 20;
SELECT email, sum(messages) FROM mart_user_daily GROUP BY email ORDER BY 2 DESC LIMIT 10;
SELECT count(*), count(DISTINCT conversation_id), avg(length(content)) FROM messages WHERE role = 'user';
SELECT hour(sent_at) AS hour, count(*) FROM messages GROUP BY hour ORDER BY hour;
SELECT kind, count(*) FROM memory_relationships GROUP BY kind;
