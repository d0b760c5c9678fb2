SELECT m.tenant_id, m.memory_id
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[]) AS due (tenant_id, memory_id)
JOIN memories m USING (tenant_id, memory_id)
ORDER BY m.tenant_id, m.memory_id
FOR NO KEY UPDATE OF m SKIP LOCKED
