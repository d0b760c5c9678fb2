-- Which words do the newest facts come from?
--
-- Every fact names the message it was found in. This is how to judge an enricher: read the two side by side.
SELECT f.statement, round(f.confidence::DOUBLE, 2) AS confidence, m.speaker, m.sent_at, m.content AS said, f.enricher
FROM facts f
JOIN messages m ON m.tenant_id = f.tenant_id AND m.message_id = f.source_message_id
ORDER BY m.sent_at DESC, f.fact_id
LIMIT 20
