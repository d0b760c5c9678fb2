-- Which rows each day has. xmin is the transaction that wrote a row version: whatever changes a row changes it, and
-- nothing else does. (Transactions that come late can't be missed by it, as they would be by a time stamp.) Each hash
-- seeds the next: hashing a ROW of the three takes half as long again.
SELECT 'messages' AS table_name, (day AT TIME ZONE 'UTC')::date AS day, rows, digest
FROM (
    SELECT date_bin('1 day', sent_at, timestamptz 'epoch') AS day, count(*) AS rows,
           sum(uuid_hash_extended(message_id, timestamptz_hash_extended(received_at, hashxidextended(xmin, 0)))) AS digest
    FROM messages
    GROUP BY 1
) AS days
