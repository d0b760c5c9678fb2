-- Those of the named vectors that are (still) due, with all that is stored beside them, in order of memory and chunk; cut
-- off where they would be too large for one request. Only chunk 0 brings the text along: a long memory has many chunks.
--
-- OFFSET 0 has each row looked up by its key, and the tenant is asked for by a subquery so that the planner does not know
-- it: of one that came after it last counted, it believes that there are hardly any rows, and takes any index for as good.
WITH due AS (
    SELECT m.memory_id, e.chunk, i.version AS indexed_version,
           %(row_bytes)s + CASE WHEN %(documents)s AND e.chunk = 0
                                THEN %(bytes_per_byte)s * octet_length(m.content) ELSE 0 END AS bytes
    FROM unnest(%(memory_ids)s::uuid[], %(chunks)s::integer[]) AS named (memory_id, chunk)
    CROSS JOIN LATERAL (
        SELECT *
        FROM memories m
        WHERE m.tenant_id = (SELECT %(tenant_id)s::uuid) AND m.memory_id = named.memory_id
        OFFSET 0
    ) m
    CROSS JOIN LATERAL (
        SELECT *
        FROM memory_embeddings e
        WHERE e.tenant_id = (SELECT %(tenant_id)s::uuid) AND e.memory_id = named.memory_id AND e.model = %(model)s
          AND e.chunk = named.chunk
        OFFSET 0
    ) e
    LEFT JOIN LATERAL (
        SELECT *
        FROM index_entries i
        WHERE i.tenant_id = (SELECT %(tenant_id)s::uuid) AND i.generation_id = %(generation_id)s
          AND i.memory_id = named.memory_id AND i.chunk = named.chunk
        OFFSET 0
    ) i ON true
    WHERE m.status IN ('active', 'superseded') AND e.content_hash = m.content_hash
      AND (i.version IS NULL OR i.version <> m.version OR i.content_hash <> m.content_hash)
), page AS (
    SELECT memory_id, chunk, indexed_version, bytes, sum(bytes) OVER (ORDER BY memory_id, chunk) AS bytes_so_far
    FROM due
)
SELECT m.memory_id, p.chunk, p.indexed_version, e.dimension, e.embedding, m.version, m.content_hash, m.kind, m.day,
       m.user_id::text AS user_id, coalesce(m.conversation_id::text, '') AS conversation_id,
       coalesce(m.project, '') AS project, m.status, m.source_message_ids::text[] AS source_message_ids, m.confidence,
       m.valid_from, m.valid_to,
       CASE WHEN %(documents)s AND p.chunk = 0 THEN m.content END AS content
FROM page p
CROSS JOIN LATERAL (
    SELECT * FROM memories m WHERE m.tenant_id = (SELECT %(tenant_id)s::uuid) AND m.memory_id = p.memory_id OFFSET 0
) m
CROSS JOIN LATERAL (
    SELECT *
    FROM memory_embeddings e
    WHERE e.tenant_id = (SELECT %(tenant_id)s::uuid) AND e.memory_id = p.memory_id AND e.model = %(model)s
      AND e.chunk = p.chunk
    OFFSET 0
) e
WHERE p.bytes_so_far <= %(page_bytes)s OR p.bytes_so_far = p.bytes
ORDER BY p.memory_id, p.chunk
