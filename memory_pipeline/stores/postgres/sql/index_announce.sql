-- Entries of version 0: from now on Chroma may or may not hold these vectors, of whatever version.
INSERT INTO index_entries (tenant_id, generation_id, memory_id, chunk, version, content_hash)
SELECT %(tenant_id)s, %(generation_id)s, announced.memory_id, announced.chunk, 0, ''
FROM unnest(%(memory_ids)s::uuid[], %(chunks)s::integer[]) AS announced (memory_id, chunk)
ON CONFLICT (tenant_id, generation_id, memory_id, chunk) DO UPDATE SET version = 0, content_hash = ''
