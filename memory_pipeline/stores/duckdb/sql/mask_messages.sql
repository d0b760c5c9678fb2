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
           NULL AS raw_data
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
