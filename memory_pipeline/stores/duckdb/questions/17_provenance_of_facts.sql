-- Which words do the newest facts come from?
--
-- Every fact names the message it was found in, which is of the same day. This is how to judge an enricher: read the two
-- side by side. Taking the facts first, and naming the day in the join, spares reading the messages of all other days.
WITH newest AS (
    SELECT tenant_id, day, fact_id, source_message_id, statement, confidence, enricher
    FROM facts
    ORDER BY day DESC, fact_id
    LIMIT 20
)
SELECT f.statement, round(f.confidence::DOUBLE, 2) AS confidence, m.speaker, m.sent_at, m.content AS said, f.enricher
FROM newest f
JOIN messages m ON m.tenant_id = f.tenant_id AND m.day = f.day AND m.message_id = f.source_message_id
ORDER BY m.sent_at DESC, f.fact_id
