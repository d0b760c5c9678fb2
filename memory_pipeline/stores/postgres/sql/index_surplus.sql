-- Entries that must leave the index. A memory that is gone has no day any more, so every run removes it.
SELECT i.memory_id, i.chunk
FROM index_entries i
LEFT JOIN memories m ON m.tenant_id = i.tenant_id AND m.memory_id = i.memory_id
WHERE i.tenant_id = %(tenant_id)s AND i.generation_id = %(generation_id)s AND m.memory_id IS NULL
UNION ALL
SELECT i.memory_id, i.chunk
FROM memories m
JOIN index_entries i ON i.tenant_id = m.tenant_id AND i.generation_id = %(generation_id)s AND i.memory_id = m.memory_id
WHERE m.tenant_id = %(tenant_id)s AND m.day >= %(start)s AND m.day < %(end)s AND m.status IN ('deleted', 'failed')
UNION ALL
-- chunks of an earlier, longer content
SELECT i.memory_id, i.chunk
FROM index_entries i
JOIN memories m ON m.tenant_id = i.tenant_id AND m.memory_id = i.memory_id
JOIN memory_embeddings first_chunk ON first_chunk.tenant_id = i.tenant_id AND first_chunk.memory_id = i.memory_id
    AND first_chunk.model = %(model)s AND first_chunk.chunk = 0 AND first_chunk.content_hash = m.content_hash
WHERE i.tenant_id = %(tenant_id)s AND i.generation_id = %(generation_id)s AND i.chunk > 0
  AND i.chunk >= first_chunk.chunks
  AND m.day >= %(start)s AND m.day < %(end)s AND m.status NOT IN ('deleted', 'failed')
LIMIT %(limit)s
