-- A batch that came with the statement, as JSON: no round trips for the temporary table.
SELECT *
FROM json_to_recordset(%(rows)s::json) AS sent (
    message_id uuid, conversation_id uuid, user_id uuid, source text, source_message_id text, project text, role text,
    speaker text, content text, sent_at timestamptz, position bigint, raw_data jsonb, memory_id uuid, memory_speaker text
)
