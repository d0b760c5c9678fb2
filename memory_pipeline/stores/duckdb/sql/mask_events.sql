INSERT INTO events BY NAME
SELECT * REPLACE (
           pseudonym(event_id) AS event_id,
           keyed_hash(actor) AS actor,
           pseudonym(subject_id) AS subject_id,
           pseudonym(correlation_id) AS correlation_id,
           '{}' AS detail,
           to_day(occurred_at) AS occurred_at
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
ORDER BY day, tenant_id, event_id
