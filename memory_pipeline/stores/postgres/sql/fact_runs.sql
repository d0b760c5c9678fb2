-- Every fact of every slot that the window touches, with the fact that ends it and the first of those it agrees with.
--
-- What a fact says of its slot is an object ("lives_in": Lisbon), or, where the slot is about one thing
-- ("preference:coffee"), merely yes or no. Another object affirmed later ends it, and so does the same one denied later.
-- A denial ("no longer lives in Paris") ends nothing else, and holds until its own object is affirmed again.
CREATE TEMPORARY TABLE fact_run ON COMMIT DROP AS
WITH touched AS (
    SELECT tenant_id, user_id, subject, slot, row_number() OVER () AS slot_number
    FROM memories
    WHERE kind = 'fact' AND slot IS NOT NULL AND day >= %(start)s AND day < %(end)s
    GROUP BY tenant_id, user_id, subject, slot
), facts AS (
    SELECT m.tenant_id, m.memory_id, m.day, m.status, m.valid_from, t.slot_number,
           (m.raw_data ->> 'stated_valid_to')::timestamptz AS stated_valid_to,
           CASE WHEN m.slot NOT LIKE '%%:%%' OR m.predicate = 'favourite' THEN lower(m.object) END AS value,
           m.negated <> (m.predicate = 'dislikes') AS denied
    FROM touched t
    JOIN memories m USING (tenant_id, user_id, subject, slot)
    WHERE m.kind = 'fact'
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY slot_number ORDER BY valid_from, memory_id) AS place,
           NOT denied AND value IS DISTINCT FROM lag(value, 1, '') OVER (
               PARTITION BY slot_number, denied ORDER BY valid_from, memory_id) AS changes_value
    FROM facts
    WHERE status IN ('active', 'superseded')
), ends AS (
    -- Counting down, what came before in the window is later in time, and its minimum is the nearest.
    SELECT *, CASE WHEN denied THEN min(place) FILTER (WHERE NOT denied) OVER later_of_value
                   ELSE least(min(place) FILTER (WHERE denied) OVER later_of_value,
                              min(place) FILTER (WHERE changes_value) OVER later) END AS end_place
    FROM placed
    WINDOW later AS (PARTITION BY slot_number ORDER BY place DESC
                     ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
           later_of_value AS (PARTITION BY slot_number, value ORDER BY place DESC
                              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
)
SELECT e.tenant_id, e.memory_id, e.day, e.stated_valid_to, ender.memory_id AS ended_by, ender.valid_from AS ended_at,
       first_value(e.memory_id) OVER (
           PARTITION BY e.slot_number, e.value, e.denied, e.end_place ORDER BY e.place) AS first_of_run
FROM ends e
LEFT JOIN placed ender ON ender.slot_number = e.slot_number AND ender.place = e.end_place
UNION ALL
-- Withdrawn and failed facts have no say, but relations of before have to go.
SELECT tenant_id, memory_id, day, stated_valid_to, NULL, NULL, memory_id
FROM facts
WHERE status NOT IN ('active', 'superseded')
