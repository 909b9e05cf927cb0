-- Keeps sessions alive that have not expired. Returns which they are: the others are lost.
WITH alive AS (
    SELECT session_id FROM worker_sessions
    WHERE session_id = ANY($1::uuid[]) AND expires_at > now()
    ORDER BY session_id FOR NO KEY UPDATE
)
UPDATE worker_sessions SET expires_at = now() + $2::double precision * interval '1 ms'
FROM alive WHERE worker_sessions.session_id = alive.session_id
RETURNING worker_sessions.session_id
