-- Those of the named memories that an index still holds, whether they exist or not.
SELECT DISTINCT i.tenant_id, i.memory_id
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[]) AS n (tenant_id, memory_id)
JOIN index_entries i ON i.tenant_id = n.tenant_id AND i.memory_id = n.memory_id
JOIN index_generations g ON g.tenant_id = i.tenant_id AND g.generation_id = i.generation_id
WHERE g.model = %(model)s AND g.state = 'live'
