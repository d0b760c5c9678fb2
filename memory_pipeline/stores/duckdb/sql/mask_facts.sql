INSERT INTO facts BY NAME
SELECT * REPLACE (
           pseudonym(fact_id) AS fact_id,
           pseudonym(user_id) AS user_id,
           pseudonym(conversation_id) AS conversation_id,
           pseudonym(source_message_id) AS source_message_id,
           '' AS statement,
           keyed_hash(subject) AS subject,
           keyed_hash(predicate) AS predicate,
           keyed_hash(object) AS object,
           keyed_hash(slot) AS slot,
           pseudonym(superseded_by) AS superseded_by
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
