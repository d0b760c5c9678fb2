-- Every job is as if asked for at the beginning of its day: how long it waited and took stays.
INSERT INTO jobs BY NAME
SELECT * REPLACE (
           pseudonym(job_id) AS job_id,
           pseudonym(subject_id) AS subject_id,
           pseudonym(user_id) AS user_id,
           pseudonym(correlation_id) AS correlation_id,
           to_day(created_at) AS created_at,
           to_day(created_at) + (available_at - created_at) AS available_at,
           to_day(created_at) + (finished_at - created_at) AS finished_at
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
ORDER BY day, tenant_id, job_id
