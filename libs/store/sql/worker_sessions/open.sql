-- Opens a session, which lives until it is not renewed for its time.
INSERT INTO worker_sessions (session_id, worker_id, expires_at, namespaces, handlers)
VALUES ($1, $2, now() + $3::double precision * interval '1 ms', $4, $5)
