-- One tenant with random unit vectors for memories of a usual length, 1,000 to a day.
CREATE TEMPORARY TABLE parameters AS
SELECT current_setting('bench.rows')::integer AS row_count, current_setting('bench.dimension')::integer AS dimension;

INSERT INTO memory.tenants (slug, name) VALUES ('bench', 'bench');
INSERT INTO memory.users (tenant_id, email, display_name) SELECT tenant_id, 'ada@bench.test', 'Ada' FROM memory.tenants;

INSERT INTO memory.memories (tenant_id, memory_id, user_id, kind, status, content, content_hash, day, source_message_ids)
SELECT tenant_id, uuidv7(), user_id, 'episode', 'active', content, sha256(content::bytea), date '2026-01-01' + n / 1000,
       ARRAY[uuidv7()]
FROM memory.users, parameters, generate_series(1, row_count) n,
     LATERAL (SELECT 'Ada: message ' || n || repeat(' and some more words', 6) AS content) made;

INSERT INTO memory.memory_embeddings (tenant_id, memory_id, model, chunk, chunks, dimension, embedding, content_hash)
SELECT tenant_id, memory_id, 'random', 0, 1, dimension,
       l2_normalize((SELECT array_agg(random_normal()) FROM generate_series(1, dimension)
                     WHERE memory_id IS NOT NULL)::vector),
       content_hash
FROM memory.memories, parameters;
