INSERT INTO conversations BY NAME
SELECT * REPLACE (
           pseudonym(conversation_id) AS conversation_id,
           pseudonym(user_id) AS user_id,
           known_source(source) AS source,
           keyed_hash(source_conversation_id) AS source_conversation_id,
           NULL AS title,
           keyed_hash(project) AS project,
           to_day(created_at) AS created_at
       )
FROM read_parquet($files, hive_partitioning = false)
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
ORDER BY tenant_id, conversation_id
