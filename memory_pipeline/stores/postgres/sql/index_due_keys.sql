-- The next vectors of these days, in order of memory and chunk, that the index lacks or has of another version: keys
-- only, many at a time, because for a whole tenant finding any takes comparing all.
SELECT e.memory_id, e.chunk
FROM memory_embeddings e
JOIN memories m ON m.tenant_id = e.tenant_id AND m.memory_id = e.memory_id
LEFT JOIN index_entries i ON i.tenant_id = e.tenant_id AND i.generation_id = %(generation_id)s
    AND i.memory_id = e.memory_id AND i.chunk = e.chunk
WHERE e.tenant_id = %(tenant_id)s AND e.model = %(model)s
  AND e.memory_id >= %(after_memory)s AND (e.memory_id, e.chunk) > (%(after_memory)s, %(after_chunk)s)
  AND (m.day >= %(start)s AND m.day < %(end)s OR m.day = ANY(%(days)s::date[]))
  AND m.status IN ('active', 'superseded')
  AND e.content_hash = m.content_hash
  AND (i.version IS NULL OR i.version <> m.version OR i.content_hash <> m.content_hash)
ORDER BY e.memory_id, e.chunk
LIMIT %(limit)s
