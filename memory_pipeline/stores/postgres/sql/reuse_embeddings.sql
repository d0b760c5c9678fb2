-- Texts that are embedded already, under the same tenant and model, for another memory: copied, not embedded again.
INSERT INTO made_embedding (tenant_id, memory_id, chunk, chunks, embedding, content_hash)
SELECT due.tenant_id, due.memory_id, known.chunk, known.chunks, known.embedding, due.content_hash
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[], %(content_hashes)s::bytea[])
    AS due (tenant_id, memory_id, content_hash)
CROSS JOIN LATERAL (
    SELECT k.memory_id
    FROM memory_embeddings k
    WHERE k.tenant_id = due.tenant_id AND k.model = %(model)s AND k.content_hash = due.content_hash
    GROUP BY k.memory_id
    HAVING count(*) = max(k.chunks)
    LIMIT 1
) donor
JOIN memory_embeddings known ON known.tenant_id = due.tenant_id AND known.memory_id = donor.memory_id
    AND known.model = %(model)s AND known.content_hash = due.content_hash
RETURNING tenant_id, memory_id
