-- Where did audits find that a store disagreed with Postgres, and was it put right?
--
-- A tenant without findings has a line with zeros: every store agreed, or no audit was run.
SELECT t.slug AS tenant, q.store, q.problem,
       coalesce(sum(q.findings), 0)::BIGINT AS findings,
       coalesce(sum(q.repaired), 0)::BIGINT AS repaired,
       max(q.day) AS last_found
FROM tenants t
LEFT JOIN mart_data_quality q USING (tenant_id)
GROUP BY t.slug, q.store, q.problem
ORDER BY findings DESC, tenant, q.store, q.problem
