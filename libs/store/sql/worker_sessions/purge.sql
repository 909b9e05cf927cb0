-- Forgets sessions that have expired and hold nothing any more.
DELETE FROM worker_sessions
WHERE expires_at < now()
  AND NOT EXISTS (SELECT FROM leases WHERE leases.session_id = worker_sessions.session_id)
