-- A batch that was copied into the temporary table.
SELECT * FROM incoming_batch
