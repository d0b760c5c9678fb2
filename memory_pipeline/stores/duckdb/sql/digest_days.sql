-- Rows and digest of some days of a table; added up over all days they are what verify.py finds.
SELECT count(*), coalesce(sum(hash(t)), 0)
FROM query_table($table) AS t
WHERE list_contains($days, day)
