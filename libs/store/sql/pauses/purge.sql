-- Forgets pauses that ended long ago.
DELETE FROM pauses WHERE resumed_at < now() - $1::integer * interval '1 day'
