INSERT INTO llm_usage (tenant_id, correlation_id, plugin, model, what, requests, texts, prompt_tokens, cost_usd)
SELECT u.tenant_id, %(correlation_id)s, r.plugin, %(model)s, %(what)s, u.requests, u.texts, u.prompt_tokens, u.cost_usd
FROM unnest(%(tenant_ids)s::uuid[], %(requests)s::integer[], %(texts)s::integer[], %(prompt_tokens)s::bigint[],
            %(costs)s::numeric[]) AS u (tenant_id, requests, texts, prompt_tokens, cost_usd)
JOIN plugin_registry r ON r.plugin = %(plugin)s AND r.costs
