-- Where did audits find that a store disagreed with Postgres, and was it put right?
--
-- A line with 0 findings is something that audits looked for and never found. A tenant that no audit has looked at has one
-- line without a store.
SELECT t.slug AS tenant, q.store, q.problem,
       coalesce(sum(q.findings), 0)::BIGINT AS findings,
       coalesce(sum(q.repaired), 0)::BIGINT AS repaired,
       coalesce(sum(q.audits), 0)::BIGINT AS audits,
       max(q.day) AS last_audited,
       max(q.day) FILTER (q.findings > 0) AS last_found
FROM tenants t
LEFT JOIN mart_data_quality q USING (tenant_id)
GROUP BY t.slug, q.store, q.problem
ORDER BY findings DESC, tenant, q.store, q.problem
