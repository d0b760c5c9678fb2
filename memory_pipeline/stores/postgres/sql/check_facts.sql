-- The enricher that made a fact names exactly one message; it must be there, in the same tenant.
SELECT count(*) AS facts,
       count(*) FILTER (WHERE s.message_id IS NULL) AS without_message,
       count(*) FILTER (WHERE m.confidence IS NULL OR m.confidence NOT BETWEEN 0 AND 1) AS without_confidence,
       (array_agg(m.memory_id ORDER BY m.memory_id)
            FILTER (WHERE s.message_id IS NULL OR m.confidence IS NULL OR m.confidence NOT BETWEEN 0 AND 1))[:5] AS examples
FROM memories m
LEFT JOIN messages s ON s.tenant_id = m.tenant_id AND s.message_id = m.source_message_ids[1]
WHERE m.kind = 'fact' AND m.status <> 'deleted' AND m.day >= %(start)s AND m.day < %(end)s
