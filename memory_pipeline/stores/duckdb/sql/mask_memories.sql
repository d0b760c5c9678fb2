INSERT INTO memories BY NAME
SELECT * REPLACE (
           pseudonym(memory_id) AS memory_id,
           pseudonym(user_id) AS user_id,
           pseudonym(conversation_id) AS conversation_id,
           '' AS content,
           keyed_digest(content_hash) AS content_hash,
           list_sort(list_transform(source_message_ids, lambda id: pseudonym(id))) AS source_message_ids,
           keyed_hash(project) AS project,
           '{}' AS raw_data,
           pseudonym(superseded_by) AS superseded_by,
           to_hour(valid_from) AS valid_from,
           to_hour(valid_to) AS valid_to,
           to_day(created_at) AS created_at,
           to_day(updated_at) AS updated_at
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
ORDER BY day, tenant_id, user_id, memory_id
