-- A calendar: every day from the first to the last of messages, so that days without any show too.
-- Key: day
CREATE OR REPLACE TABLE dim_days AS
SELECT day::DATE AS day, date_trunc('week', day)::DATE AS week, date_trunc('month', day)::DATE AS month,
       dayname(day) AS weekday, isodow(day) > 5 AS is_weekend
FROM (SELECT unnest(generate_series(min(day), max(day), INTERVAL 1 DAY)) AS day FROM messages)
ORDER BY day;
COMMENT ON TABLE dim_days IS 'A calendar of UTC days, from the first to the last with messages.';
COMMENT ON COLUMN dim_days.day IS 'UTC day.'; -- DATE from messages.day
COMMENT ON COLUMN dim_days.week IS 'Monday of its week.'; -- DATE from messages.day
COMMENT ON COLUMN dim_days.month IS 'First day of its month.'; -- DATE from messages.day
COMMENT ON COLUMN dim_days.weekday IS 'Name of the day of the week.'; -- VARCHAR from messages.day
COMMENT ON COLUMN dim_days.is_weekend IS 'True for Saturday and Sunday.'; -- BOOLEAN from messages.day
