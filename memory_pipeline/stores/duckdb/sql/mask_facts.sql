-- Subjects and objects without regard to case, which a pseudonym would hide: marts count both spellings as one.
INSERT INTO facts BY NAME
SELECT * REPLACE (
           pseudonym(fact_id) AS fact_id,
           pseudonym(user_id) AS user_id,
           pseudonym(conversation_id) AS conversation_id,
           pseudonym(source_message_id) AS source_message_id,
           '' AS statement,
           keyed_hash(lower(subject)) AS subject,
           keyed_hash(predicate) AS predicate,
           keyed_hash(lower(object)) AS object,
           keyed_hash(slot) AS slot,
           pseudonym(superseded_by) AS superseded_by,
           to_hour(valid_from) AS valid_from,
           to_hour(valid_to) AS valid_to,
           to_day(created_at) AS created_at
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
ORDER BY day, tenant_id, user_id, fact_id
