DELETE FROM index_entries i
USING unnest(%(memory_ids)s::uuid[], %(chunks)s::integer[]) AS removed (memory_id, chunk)
WHERE i.tenant_id = (SELECT %(tenant_id)s::uuid) AND i.generation_id = %(generation_id)s
  AND i.memory_id = removed.memory_id AND i.chunk = removed.chunk
