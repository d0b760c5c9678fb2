-- Chroma holds these vectors. An insert where somebody took the announcement away meanwhile, so that the next removal
-- finds what was written.
INSERT INTO index_entries (tenant_id, generation_id, memory_id, chunk, version, content_hash)
SELECT %(tenant_id)s, %(generation_id)s, written.memory_id, written.chunk, written.version, written.content_hash
FROM unnest(%(memory_ids)s::uuid[], %(chunks)s::integer[], %(versions)s::bigint[], %(content_hashes)s::bytea[])
    AS written (memory_id, chunk, version, content_hash)
ON CONFLICT (tenant_id, generation_id, memory_id, chunk) DO UPDATE SET
    version = excluded.version, content_hash = excluded.content_hash
