-- Entries that must leave the index though their memory is there, found from the memories of the days.
SELECT i.memory_id, i.chunk
FROM memories m
JOIN index_entries i ON i.tenant_id = m.tenant_id AND i.generation_id = %(generation_id)s AND i.memory_id = m.memory_id
WHERE m.tenant_id = %(tenant_id)s AND (m.day >= %(start)s AND m.day < %(end)s OR m.day = ANY(%(days)s::date[]))
  AND m.status IN ('deleted', 'failed')
UNION ALL
-- chunks of an earlier, longer content
SELECT i.memory_id, i.chunk
FROM memories m
JOIN memory_embeddings first_chunk ON first_chunk.tenant_id = m.tenant_id AND first_chunk.memory_id = m.memory_id
    AND first_chunk.model = %(model)s AND first_chunk.chunk = 0 AND first_chunk.content_hash = m.content_hash
JOIN index_entries i ON i.tenant_id = m.tenant_id AND i.generation_id = %(generation_id)s AND i.memory_id = m.memory_id
    AND i.chunk > 0 AND i.chunk >= first_chunk.chunks
WHERE m.tenant_id = %(tenant_id)s AND (m.day >= %(start)s AND m.day < %(end)s OR m.day = ANY(%(days)s::date[]))
  AND m.status NOT IN ('deleted', 'failed')
LIMIT %(limit)s
