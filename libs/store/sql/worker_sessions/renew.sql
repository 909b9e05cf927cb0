-- Keeps sessions alive. One that had run out lives again: its leases, if nobody has taken them, too.
-- Returns which there are: the others are lost.
WITH mine AS (
    SELECT session_id FROM worker_sessions WHERE session_id = ANY($1::uuid[])
    ORDER BY session_id FOR NO KEY UPDATE
)
UPDATE worker_sessions SET expires_at = now() + $2::double precision * interval '1 ms'
FROM mine WHERE worker_sessions.session_id = mine.session_id
RETURNING worker_sessions.session_id
