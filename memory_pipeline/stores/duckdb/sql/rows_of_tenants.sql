-- Rows of each of these tenants in files of one table, and the sum of their hashes.
SELECT tenant_id, count(*), sum(hash(t))
FROM read_parquet($files, hive_partitioning = true) AS t
WHERE list_contains($tenants::UUID[], tenant_id)
GROUP BY tenant_id
