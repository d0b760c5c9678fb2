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
