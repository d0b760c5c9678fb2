-- Texts that are embedded already, under the same tenant and model, for another memory: copied, not embedded again.
-- OFFSET 0 has them looked up text by text: while the first vectors are being written, the planner can't know their
-- number, and would sort all of them for every batch.
INSERT INTO made_embedding (tenant_id, memory_id, chunk, chunks, embedding, content_hash)
SELECT due.tenant_id, due.memory_id, known.chunk, known.chunks, known.embedding, due.content_hash
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[], %(content_hashes)s::bytea[])
    AS due (tenant_id, memory_id, content_hash)
CROSS JOIN LATERAL (
    SELECT k.memory_id
    FROM memory_embeddings k
    WHERE k.tenant_id = due.tenant_id AND k.model = %(model)s AND k.content_hash = due.content_hash AND k.chunk = 0
      AND k.chunks = (SELECT count(*)
                      FROM memory_embeddings c
                      WHERE c.tenant_id = due.tenant_id AND c.memory_id = k.memory_id AND c.model = %(model)s
                        AND c.content_hash = due.content_hash)
    LIMIT 1
) donor
CROSS JOIN LATERAL (
    SELECT v.chunk, v.chunks, v.embedding
    FROM memory_embeddings v
    WHERE v.tenant_id = due.tenant_id AND v.memory_id = donor.memory_id AND v.model = %(model)s
      AND v.content_hash = due.content_hash
    OFFSET 0
) known
RETURNING tenant_id, memory_id
