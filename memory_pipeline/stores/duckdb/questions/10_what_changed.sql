-- What changed in people's lives, and how long did it hold before?
--
-- A relation of kind `supersedes` leads from the later fact to the earlier one. Neither is deleted: the earlier keeps the
-- interval in which it held.
SELECT o.email, o.statement AS before, n.statement AS since, (n.valid_from AT TIME ZONE 'UTC')::DATE AS changed_on,
       round(o.valid_days)::BIGINT AS days_before
FROM memory_relationships r
JOIN mart_fact_catalogue o ON o.tenant_id = r.tenant_id AND o.fact_id = r.to_id
JOIN facts n ON n.tenant_id = r.tenant_id AND n.fact_id = r.from_id
WHERE r.kind = 'supersedes'
ORDER BY n.valid_from DESC, o.fact_id
LIMIT 20
