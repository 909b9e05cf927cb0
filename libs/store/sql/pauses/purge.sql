-- Forgets pauses of templates that ended long ago.
DELETE FROM pauses WHERE task_id IS NULL AND resumed_at < now() - $1::integer * interval '1 day'
