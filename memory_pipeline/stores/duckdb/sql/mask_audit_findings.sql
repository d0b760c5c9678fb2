INSERT INTO audit_findings BY NAME
SELECT * REPLACE (
           pseudonym(finding_id) AS finding_id,
           pseudonym(audit_id) AS audit_id,
           pseudonym(subject_id) AS subject_id,
           '{}' AS detail
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
ORDER BY day, tenant_id, audit_id, finding_id
