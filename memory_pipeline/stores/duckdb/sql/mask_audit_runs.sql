INSERT INTO audit_runs BY NAME
SELECT * REPLACE (
           pseudonym(audit_id) AS audit_id
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
ORDER BY day, tenant_id, audit_id
