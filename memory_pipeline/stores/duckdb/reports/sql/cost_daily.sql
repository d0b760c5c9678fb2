-- What calls of models cost: a row for each UTC day, plugin and model; local models cost nothing and have none.
SELECT day, plugin, model, requests, texts, tokens, cost_usd, rows_without_price, rows_without_tokens
FROM mart_cost_daily
WHERE tenant_id = $tenant_id AND day BETWEEN $first_day AND $last_day
ORDER BY day DESC, plugin, model
LIMIT $rows
