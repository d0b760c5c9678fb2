-- Tenant by tenant: the vectors that the index should hold for these days, against the entries of the live collection.
WITH expected AS (
    SELECT m.tenant_id, m.memory_id, e.chunk, m.version, m.content_hash
    FROM memories m
    JOIN memory_embeddings e ON e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s
        AND e.content_hash = m.content_hash AND e.chunk < e.chunks
    WHERE m.status IN ('active', 'superseded') AND m.day >= %(start)s AND m.day < %(end)s
), entries AS (
    SELECT i.tenant_id, i.memory_id, i.chunk, i.version, i.content_hash
    FROM index_generations g
    JOIN index_entries i ON i.tenant_id = g.tenant_id AND i.generation_id = g.generation_id
    JOIN memories m ON m.tenant_id = i.tenant_id AND m.memory_id = i.memory_id
    WHERE g.model = %(model)s AND g.state = 'live' AND m.day >= %(start)s AND m.day < %(end)s
)
SELECT tenant_id, count(e.version) AS expected,
       count(*) FILTER (WHERE (e.version, e.content_hash) = (i.version, i.content_hash)) AS indexed,
       count(*) FILTER (WHERE e.version IS NULL) AS surplus
FROM expected e
FULL JOIN entries i USING (tenant_id, memory_id, chunk)
GROUP BY tenant_id
ORDER BY tenant_id
