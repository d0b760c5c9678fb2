DELETE FROM memory_embeddings e
USING made_embedding made
WHERE made.chunk = 0 AND e.tenant_id = made.tenant_id AND e.memory_id = made.memory_id AND e.model = %(model)s
  AND e.chunk >= made.chunks
