INSERT INTO memory_embeddings (tenant_id, memory_id, model, chunk, chunks, dimension, embedding, content_hash)
SELECT tenant_id, memory_id, %(model)s, chunk, chunks, vector_dims(embedding), embedding, content_hash
FROM made_embedding
ORDER BY tenant_id, memory_id, chunk
ON CONFLICT (tenant_id, memory_id, model, chunk) DO UPDATE SET
    chunks = excluded.chunks, dimension = excluded.dimension, embedding = excluded.embedding,
    content_hash = excluded.content_hash, created_at = now()
