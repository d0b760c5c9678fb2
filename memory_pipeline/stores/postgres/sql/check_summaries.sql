-- Summaries of the weeks that begin in this time, and those that name no message, or one that the user did not write.
WITH summaries AS (
    SELECT m.memory_id, count(named.message_id) AS named, count(s.message_id) AS found
    FROM memories m
    LEFT JOIN LATERAL unnest(m.source_message_ids) AS named (message_id) ON true
    LEFT JOIN messages s ON s.tenant_id = m.tenant_id AND s.message_id = named.message_id AND s.user_id = m.user_id
    WHERE m.kind = 'summary' AND m.status = 'active' AND m.valid_from >= %(start_time)s AND m.valid_from < %(end_time)s
    GROUP BY m.tenant_id, m.memory_id
)
SELECT count(*) AS summaries, count(*) FILTER (WHERE named = 0 OR found < named) AS without_source,
       (array_agg(memory_id ORDER BY memory_id) FILTER (WHERE named = 0 OR found < named))[:5] AS examples
FROM summaries
