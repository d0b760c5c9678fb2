DELETE FROM memory_embeddings e
USING (SELECT DISTINCT tenant_id, memory_id, chunks FROM made_embedding) made
WHERE e.tenant_id = made.tenant_id AND e.memory_id = made.memory_id AND e.model = %(model)s AND e.chunk >= made.chunks
