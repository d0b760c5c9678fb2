-- HMAC-SHA256 (RFC 2104) under a key that this connection holds and the file does not. Ids are masked throughout, because
-- some are derived from others: who knows a user's id could work out the ids of their summaries. Each kind of value has
-- a first word of its own, so that no text that somebody chose has the pseudonym of an id.
-- The statements that mask order rows by their pseudonyms (within day and tenant): in the lake they are in order of real
-- ids or times, so whoever has the real ids could sort them and pair them off.
CREATE TEMP MACRO keyed_hex(message) AS
    sha256(getvariable('mask_outer') || unhex(sha256(getvariable('mask_inner') || encode(message))));
CREATE TEMP MACRO keyed_hash(text) AS keyed_hex('text ' || text);
CREATE TEMP MACRO pseudonym(id) AS keyed_hex('id ' || id::VARCHAR)[:32]::UUID;
CREATE TEMP MACRO keyed_digest(bytes) AS unhex(keyed_hex('digest ' || hex(bytes)));
-- A line of an imported file may name any source; only the names of our own importers say nothing of anybody.
CREATE TEMP MACRO known_source(source) AS
    CASE WHEN source IN ('api', 'chatgpt', 'generated', 'jsonl', 'locomo', 'sample', 'slack') THEN source
         ELSE keyed_hash(source) END;
-- Ids hold the moment at which they were made, or at which their message was sent, to the millisecond. So times are cut:
-- what was said and held to the hour, which the marts count; all else to the day. The session counts in UTC.
CREATE TEMP MACRO to_hour(moment) AS date_trunc('hour', moment);
CREATE TEMP MACRO to_day(moment) AS date_trunc('day', moment);
