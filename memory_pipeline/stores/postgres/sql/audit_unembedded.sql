-- Of these memories, those whose vector is missing from Postgres, so that what the index should hold is not known.
SELECT m.memory_id
FROM unnest(%(memory_ids)s::uuid[]) AS indexed (memory_id)
JOIN memories m ON m.tenant_id = %(tenant_id)s AND m.memory_id = indexed.memory_id
WHERE m.status IN ('active', 'superseded')
  AND NOT coalesce((SELECT count(*) = max(e.chunks)
                    FROM memory_embeddings e
                    WHERE e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s
                      AND e.content_hash = m.content_hash), false)
