-- One look at the memories for every table that is made of them. As fingerprint_messages.
SELECT CASE WHEN grouping(kind) = 1 THEN 'memories'
            WHEN kind = 'fact' THEN 'facts'
            WHEN kind = 'summary' THEN 'summaries'
            WHEN kind = 'profile' THEN 'profiles' END AS table_name,
       day, sum(rows)::bigint AS rows, sum(digest) AS digest
FROM (
    SELECT day, kind, count(*) AS rows,
           sum(uuid_hash_extended(memory_id, timestamptz_hash_extended(updated_at, hashxidextended(xmin, 0)))) AS digest
    FROM memories
    WHERE status <> 'deleted'
    GROUP BY day, kind
) AS days
GROUP BY GROUPING SETS ((day), (day, kind))
HAVING grouping(kind) = 1 OR kind <> 'episode'
