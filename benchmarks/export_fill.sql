-- Messages as an import leaves them: tenant after tenant, each in order of time, about 128 bytes of words each.
-- Session settings: bench.messages, bench.days. Runs as the superuser, whom row-level security does not slow down.
SET search_path = memory, public;
SET synchronous_commit = off;
CREATE TEMPORARY TABLE size AS
SELECT current_setting('bench.messages')::bigint AS messages, current_setting('bench.days')::integer AS days,
       5 AS tenants, 500 AS users;
INSERT INTO tenants (slug, name) SELECT 'tenant-' || n, 'Tenant ' || n FROM size, generate_series(1, tenants) n;
INSERT INTO users (tenant_id, email, display_name)
SELECT tenant_id, 'user-' || n || '@example.org', 'User ' || n
FROM size, tenants t, generate_series(1, users / size.tenants) n;
CREATE TEMPORARY TABLE people AS
SELECT tenant_id, user_id, row_number() OVER (PARTITION BY tenant_id ORDER BY user_id) - 1 AS n,
       dense_rank() OVER (ORDER BY tenant_id) - 1 AS tenant
FROM users;
CREATE TEMPORARY TABLE turns AS
SELECT g.n, p.tenant_id, p.user_id, md5('c' || g.n / 20)::uuid AS conversation_id,
       timestamptz '2025-01-01 00:00:00+00' + (g.n % (s.messages / s.tenants + 1)) * (s.days * interval '1 day' / (s.messages / s.tenants + 1)) AS sent_at,
       (SELECT string_agg(words.word, ' ' ORDER BY k)
        FROM generate_series(1, 21) k
        JOIN (VALUES (0, 'coffee'), (1, 'Lisbon'), (2, 'my'), (3, 'project'), (4, 'deadline'), (5, 'Friday'), (6, 'we'),
                     (7, 'talked'), (8, 'about'), (9, 'the'), (10, 'garden'), (11, 'with'), (12, 'Ana'), (13, 'and'),
                     (14, 'moved'), (15, 'house')) AS words (at, word)
             ON words.at = get_byte(decode(md5(g.n::text || 'w'), 'hex'), k % 16) % 16) || ' ' || md5(g.n::text) AS content
FROM size s, generate_series(0, s.messages - 1) AS g (n)
JOIN people p ON p.tenant = g.n * 5 / current_setting('bench.messages')::bigint AND p.n = (g.n / 20) % 100;
INSERT INTO conversations (tenant_id, conversation_id, user_id, source, source_conversation_id, title)
SELECT DISTINCT ON (tenant_id, conversation_id)
       tenant_id, conversation_id, user_id, 'bench', conversation_id::text || tenant_id, 'Talk ' || n / 20
FROM turns
ORDER BY tenant_id, conversation_id, n;
INSERT INTO messages (tenant_id, message_id, conversation_id, user_id, source, source_message_id, role, content,
                      content_hash, sent_at, position)
SELECT tenant_id,
       (lpad(to_hex((extract(epoch FROM sent_at) * 1000)::bigint), 12, '0') || '8' || substr(md5(n::text), 1, 3) || 'a'
        || substr(md5(n::text), 4, 15))::uuid,
       conversation_id, user_id, 'bench', 'message-' || n, CASE WHEN n % 2 = 0 THEN 'user' ELSE 'assistant' END, content,
       message_hash(CASE WHEN n % 2 = 0 THEN 'user' ELSE 'assistant' END, NULL, content), sent_at, n % 20
FROM turns
ORDER BY n;
-- As many memories as messages: of nine messages in ten the episode, of the tenth a fact. One fact in four is superseded
-- by one that the same user states a day later.
CREATE TEMPORARY TABLE numbered AS
SELECT m.*, row_number() OVER (ORDER BY tenant_id, sent_at, message_id) - 1 AS n FROM messages m;
INSERT INTO memories (tenant_id, memory_id, user_id, conversation_id, kind, status, content, content_hash, day,
                      source_message_ids, enricher)
SELECT tenant_id, md5('e' || message_id)::uuid, user_id, conversation_id, 'episode', 'active', content,
       content_hash, (sent_at AT TIME ZONE 'UTC')::date, ARRAY[message_id], 'local@1'
FROM numbered
WHERE n % 10 <> 9;
INSERT INTO memories (tenant_id, memory_id, user_id, conversation_id, kind, status, content, content_hash, day,
                      source_message_ids, enricher, confidence, subject, predicate, object, slot, valid_from, valid_to,
                      superseded_by)
SELECT f.tenant_id, md5('f' || f.message_id)::uuid, f.user_id, f.conversation_id, 'fact',
       CASE WHEN superseded THEN 'superseded' ELSE 'active' END, statement, sha256(statement::bytea),
       (f.sent_at AT TIME ZONE 'UTC')::date, ARRAY[f.message_id], 'local@1', 0.5 + (f.n % 50) / 100.0,
       'User ' || f.n % 97, predicate, object, CASE predicate WHEN 'lives in' THEN 'lives_in' END, f.sent_at,
       CASE WHEN superseded THEN f.sent_at + interval '1 day' END,
       CASE WHEN superseded THEN md5('f' || later.message_id)::uuid END
FROM numbered f
LEFT JOIN numbered later ON later.n = f.n + 2000 AND later.tenant_id = f.tenant_id
CROSS JOIN LATERAL (SELECT f.n / 10 % 4 = 0 AND later.n IS NOT NULL AS superseded,
                           (ARRAY['lives in', 'likes', 'works as', 'owns', 'visited'])[1 + f.n / 10 % 5] AS predicate,
                           (ARRAY['Lisbon', 'coffee', 'nurse', 'a dog', 'Porto', 'tea', 'baker', 'a boat', 'Rome'])
                               [1 + f.n / 50 % 9] AS object) AS said
CROSS JOIN LATERAL (SELECT 'User ' || f.n % 97 || ' ' || predicate || ' ' || object || ' (' || f.n || ').' AS statement) AS text
WHERE f.n % 10 = 9;
INSERT INTO memory_relationships (tenant_id, from_id, to_id, kind, confidence, detector, day)
SELECT f.tenant_id, f.superseded_by, f.memory_id, 'supersedes', 1, 'slot@1', l.day
FROM memories f
JOIN memories l ON l.tenant_id = f.tenant_id AND l.memory_id = f.superseded_by;
-- A job and an event for one message in twenty.
INSERT INTO memory_jobs (tenant_id, job_id, job_type, state, subject_id, user_id, day, attempts, correlation_id,
                         available_at, created_at, finished_at, error_class, error_text)
SELECT tenant_id, md5('j' || message_id)::uuid, 'enrich_and_embed', CASE WHEN n % 400 = 0 THEN 'dead' ELSE 'completed' END,
       md5('e' || message_id)::uuid, user_id, (sent_at AT TIME ZONE 'UTC')::date, 1 + (n % 400 = 0)::integer * 2,
       md5(message_id::text)::uuid, sent_at, sent_at, sent_at + (50 + n % 5000) * interval '1 millisecond',
       CASE WHEN n % 400 = 0 THEN 'ProviderError' END, CASE WHEN n % 400 = 0 THEN 'no answer' END
FROM numbered
WHERE n % 20 = 0;
INSERT INTO events (tenant_id, event_id, kind, actor, subject_id, correlation_id, occurred_at)
SELECT tenant_id, md5('v' || message_id)::uuid, 'messages_ingested', 'bench', conversation_id, md5(message_id::text)::uuid, sent_at
FROM numbered
WHERE n % 20 = 0;
