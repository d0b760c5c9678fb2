-- One user's memories that share a word with the query, and those an index suggests, each with two BM25 scores: of the
-- memory itself and of its session (all of a conversation's memories of one UTC day, taken as one text).
--
-- BM25 as in Robertson & Zaragoza (2009), eq. 3.15, with the idf that can't become negative, ln(1 + (N-df+½)/(df+½)).
-- A passage is a memory or a session; each sort has its own N, df and mean length. Length is counted in distinct words.
WITH query_words AS MATERIALIZED (
    SELECT lexeme FROM unnest(to_tsvector('english', left(%(query)s, 10000)))
), wanted AS MATERIALIZED (
    -- Inside a quoted lexeme only the quote and the backslash mean something to the parser of tsquery.
    SELECT string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery AS any_word,
           array_agg(lexeme) AS words
    FROM query_words
), sessions AS MATERIALIZED (
    SELECT conversation_id, day, count(*) AS memories, sum(length(search_vector)) AS words
    FROM memories
    WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND search_vector IS NOT NULL
      AND status NOT IN ('deleted', 'superseded') AND (%(project)s::text IS NULL OR project = %(project)s)
    GROUP BY conversation_id, day
), corpus (is_session, passages, mean_words) AS (
    SELECT false, sum(memories), sum(words) / nullif(sum(memories), 0) FROM sessions
    UNION ALL
    SELECT true, count(*), avg(words) FROM sessions
), matches AS MATERIALIZED (
    -- setweight and ts_filter leave the query's words alone: unnesting all the words was half the time.
    SELECT memory_id, conversation_id, day, length(search_vector) AS words,
           ts_filter(setweight(search_vector, 'A', (SELECT words FROM wanted)), '{a}') AS found
    FROM memories
    WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND search_vector @@ (SELECT any_word FROM wanted)
      AND status NOT IN ('deleted', 'superseded') AND (%(project)s::text IS NULL OR project = %(project)s)
), occurrences AS (
    SELECT lexeme, m.conversation_id, m.day, m.memory_id,
           grouping(m.memory_id) = 1 AS is_session,
           sum(cardinality(positions)) AS frequency, min(m.words) AS memory_words
    FROM matches m
    CROSS JOIN LATERAL unnest(m.found)
    GROUP BY GROUPING SETS ((lexeme, m.conversation_id, m.day, m.memory_id), (lexeme, m.conversation_id, m.day))
), scores AS MATERIALIZED (
    SELECT o.is_session, o.conversation_id, o.day, o.memory_id,
           sum(w.idf * o.frequency * (%(k1)s + 1)
               / (o.frequency + %(k1)s * (1 - %(b)s + %(b)s * p.words / w.mean_words))) AS score
    FROM occurrences o
    JOIN (
        SELECT lexeme, is_session, mean_words,
               ln(1 + (passages - count(*) + 0.5) / (count(*) + 0.5))::float8 AS idf
        FROM occurrences
        JOIN corpus USING (is_session)
        GROUP BY lexeme, is_session, passages, mean_words
    ) w USING (lexeme, is_session)
    LEFT JOIN sessions s
        ON o.is_session AND s.day = o.day AND s.conversation_id IS NOT DISTINCT FROM o.conversation_id
    CROSS JOIN LATERAL (SELECT coalesce(s.words, o.memory_words)::float8 AS words) p
    GROUP BY o.is_session, o.conversation_id, o.day, o.memory_id
), chosen AS (
    (SELECT memory_id FROM scores WHERE NOT is_session ORDER BY score DESC, memory_id LIMIT %(limit)s)
    UNION
    SELECT unnest(%(suggested)s::uuid[])
)
SELECT m.memory_id, m.kind, m.conversation_id, m.day, m.source_message_ids[1] AS message_id,
       coalesce(own.score, 0)::float8 AS text_score, coalesce(session.score, 0)::float8 AS session_text_score
FROM chosen
JOIN memories m USING (memory_id)
LEFT JOIN scores own ON NOT own.is_session AND own.memory_id = m.memory_id
LEFT JOIN scores session
    ON session.is_session AND session.conversation_id = m.conversation_id AND session.day = m.day
-- An index may suggest anything: only this user's present memories of the project count.
WHERE m.tenant_id = %(tenant_id)s AND m.user_id = %(user_id)s AND m.status NOT IN ('deleted', 'superseded')
  AND (%(project)s::text IS NULL OR m.project = %(project)s)
ORDER BY m.memory_id
