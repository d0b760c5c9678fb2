-- Entries whose memory is gone. It has no day any more, so every run looks through all entries for them, once.
SELECT i.memory_id, i.chunk
FROM index_entries i
WHERE i.tenant_id = %(tenant_id)s AND i.generation_id = %(generation_id)s
  AND NOT EXISTS (SELECT FROM memories m WHERE m.tenant_id = i.tenant_id AND m.memory_id = i.memory_id)
LIMIT %(limit)s
