-- Forgets entries that were resolved long ago, the oldest first.
DELETE FROM task_dead_letters WHERE entry_id = ANY(ARRAY(
    SELECT entry_id FROM task_dead_letters
    WHERE resolved_at < now() - $1::integer * interval '1 day'
    ORDER BY resolved_at LIMIT $2
))
