-- Which rows each day has. xmin is the transaction that wrote a row version: whatever changes a row changes it, and
-- nothing else does. (Transactions that come late can't be missed by it, as they would be by a time stamp.)
SELECT 'messages' AS table_name, (day AT TIME ZONE 'UTC')::date AS day, rows, digest
FROM (
    SELECT date_bin('1 day', sent_at, timestamptz 'epoch') AS day, count(*) AS rows,
           sum(hash_record_extended(ROW(message_id, received_at, xmin), 0)) AS digest
    FROM messages
    GROUP BY 1
) AS days
