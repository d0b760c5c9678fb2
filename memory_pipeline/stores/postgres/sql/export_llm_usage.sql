-- Dollars as double precision, because the driver answers numeric as text: fifteen digits, which is every digit of a cost
-- below 100,000 dollars a row. DuckDB makes the same decimal of it again.
SELECT (used_at AT TIME ZONE 'UTC')::date AS day, tenant_id, usage_id, used_at, correlation_id, plugin, model, what,
       requests, texts, prompt_tokens, completion_tokens, cost_usd::double precision AS cost_usd
FROM llm_usage
WHERE used_at >= current_setting('export.start_time')::timestamptz
  AND used_at < current_setting('export.end_time')::timestamptz
ORDER BY used_at, tenant_id, usage_id
