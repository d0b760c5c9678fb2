-- Memories of these days with the vectors of their present content under a model: all chunks there, all of one dimension
-- and of length 1 (float32: sums of squares of a few thousand numbers are right to about 1e-6).
WITH by_memory AS (
    SELECT m.memory_id, count(e.chunk) AS vectors, coalesce(max(e.chunks), 1) AS chunks,
           count(*) FILTER (WHERE e.dimension <> %(dimension)s) AS of_other_dimension,
           count(*) FILTER (WHERE abs(vector_norm(e.embedding) - 1) > 1e-3) AS not_unit
    FROM memories m
    LEFT JOIN memory_embeddings e ON e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s
        AND e.content_hash = m.content_hash AND e.chunk < e.chunks
    WHERE m.status IN ('active', 'superseded') AND m.day >= %(start)s AND m.day < %(end)s
    GROUP BY m.tenant_id, m.memory_id
)
SELECT count(*) AS memories, coalesce(sum(vectors), 0)::bigint AS vectors,
       count(*) FILTER (WHERE vectors <> chunks) AS incomplete,
       coalesce(sum(of_other_dimension), 0)::bigint AS of_other_dimension,
       coalesce(sum(not_unit), 0)::bigint AS not_unit,
       (array_agg(memory_id ORDER BY memory_id)
            FILTER (WHERE vectors <> chunks OR of_other_dimension > 0 OR not_unit > 0))[:5] AS examples
FROM by_memory
