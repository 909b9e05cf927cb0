-- Ends a session now: whatever it still holds is lost at the next look.
DELETE FROM worker_sessions WHERE session_id = $1
