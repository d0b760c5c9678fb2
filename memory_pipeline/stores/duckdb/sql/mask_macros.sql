-- HMAC-SHA256 (RFC 2104) under a key that this connection holds and the file does not. Ids are masked throughout, because
-- some are derived from others: who knows a user's id could work out the ids of their summaries.
CREATE TEMP MACRO keyed_hash(text) AS
    sha256(getvariable('mask_outer') || unhex(sha256(getvariable('mask_inner') || encode(text))));
CREATE TEMP MACRO pseudonym(id) AS keyed_hash('id ' || id::VARCHAR)[:32]::UUID;
CREATE TEMP MACRO keyed_digest(bytes) AS unhex(keyed_hash('digest ' || hex(bytes)));
