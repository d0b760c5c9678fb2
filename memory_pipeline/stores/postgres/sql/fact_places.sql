-- Every fact of every touched slot: its place in the order of time, and the place of what ends it.
--
-- What a fact says of its slot is an object ("lives_in": Lisbon), or, where the slot is about one thing
-- ("preference:coffee"), merely yes or no. Another object affirmed later ends it, and so does the same one denied later.
-- A denial ("no longer lives in Paris") ends nothing else, and holds until its own object is affirmed again.
CREATE TEMPORARY TABLE fact_place ON COMMIT DROP AS
WITH facts AS (
    -- Withdrawn and failed facts have no say, but relations of before have to go: they get no place.
    SELECT m.tenant_id, m.memory_id, m.day, m.valid_from, t.slot_number, m.status IN ('active', 'superseded') AS counts,
           (m.raw_data ->> 'stated_valid_to')::timestamptz AS stated_valid_to,
           CASE WHEN m.slot NOT LIKE '%:%' OR m.predicate = 'favourite' THEN lower(m.object) END AS value,
           m.negated <> (m.predicate = 'dislikes') AS denied
    FROM touched_slot t
    JOIN memories m USING (tenant_id, user_id, subject, slot)
    WHERE m.kind = 'fact'
), placed AS (
    SELECT *, row_number() OVER (ORDER BY slot_number, valid_from, memory_id) AS place,
           NOT denied AND value IS DISTINCT FROM lag(value, 1, '') OVER (
               PARTITION BY slot_number, denied ORDER BY valid_from, memory_id) AS changes_value
    FROM facts
    WHERE counts
)
-- Counting down, what came before in the window is later in time, and its minimum is the nearest.
SELECT *, CASE WHEN denied THEN min(place) FILTER (WHERE NOT denied) OVER later_of_value
               ELSE least(min(place) FILTER (WHERE denied) OVER later_of_value,
                          min(place) FILTER (WHERE changes_value) OVER later) END AS end_place
FROM placed
WINDOW later AS (PARTITION BY slot_number ORDER BY place DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
       later_of_value AS (PARTITION BY slot_number, value ORDER BY place DESC
                          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
UNION ALL
SELECT *, NULL, NULL, NULL
FROM facts
WHERE NOT counts
