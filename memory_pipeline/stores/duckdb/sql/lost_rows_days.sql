-- Rows of the days to be replaced that are not in the files that replace them, or that say something else there. What they
-- said would stay in the file's free space.
SELECT count(*)
FROM (
    SELECT COLUMNS(lambda c: c IN (
        'message_id', 'memory_id', 'fact_id', 'from_id', 'to_id', 'summary_id', 'profile_id', 'finding_id',
        'event_id', 'access_id', 'query_hash', 'memory_ids', 'conversation_id', 'user_id', 'content', 'statement', 'subject', 'predicate', 'object', 'slot',
        'speaker', 'raw_data', 'detail', 'project', 'actor', 'source_message_id'))
    FROM query_table($table)
    WHERE list_contains($days, day)
    EXCEPT ALL
    SELECT COLUMNS(lambda c: c IN (
        'message_id', 'memory_id', 'fact_id', 'from_id', 'to_id', 'summary_id', 'profile_id', 'finding_id',
        'event_id', 'access_id', 'query_hash', 'memory_ids', 'conversation_id', 'user_id', 'content', 'statement', 'subject', 'predicate', 'object', 'slot',
        'speaker', 'raw_data', 'detail', 'project', 'actor', 'source_message_id'))
    FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
) AS lost
