-- The position of what came by the API is the moment of its arrival, so masked ones are counted anew from 0; they tell the
-- order of turns that sent_at, cut to the hour, does not.
INSERT INTO messages BY NAME
SELECT * REPLACE (
           pseudonym(message_id) AS message_id,
           pseudonym(conversation_id) AS conversation_id,
           pseudonym(user_id) AS user_id,
           known_source(source) AS source,
           keyed_hash(source_message_id) AS source_message_id,
           NULL AS speaker,
           '' AS content,
           keyed_digest(content_hash) AS content_hash,
           NULL AS raw_data,
           to_hour(sent_at) AS sent_at,
           to_day(received_at) AS received_at,
           row_number() OVER (PARTITION BY tenant_id, conversation_id ORDER BY sent_at, position, message_id) - 1 AS position
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
ORDER BY day, tenant_id, conversation_id, message_id
