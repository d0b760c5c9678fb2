INSERT INTO jobs BY NAME
SELECT * REPLACE (
           pseudonym(job_id) AS job_id,
           pseudonym(subject_id) AS subject_id,
           pseudonym(user_id) AS user_id,
           pseudonym(correlation_id) AS correlation_id
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
