-- Facts of one day of 365 come to an end (the first time; after that they are written anew).
SET search_path = memory, public;
UPDATE memories SET status = 'superseded', valid_to = valid_from + interval '1 hour', version = version + 1,
                    updated_at = now()
WHERE day = '2025-06-01' AND kind = 'fact';
