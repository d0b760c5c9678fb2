-- As lost_rows_days, of a table that is replaced whole.
SELECT count(*)
FROM (FROM query_table($table) EXCEPT ALL FROM read_parquet($files, hive_partitioning = false)) AS lost
