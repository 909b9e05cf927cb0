-- Asks for a task's moves to be announced from now on. Returns nothing if they are already, or it has ended.
UPDATE tasks SET watched = true
WHERE task_id = ANY($1::uuid[]) AND NOT watched AND NOT is_end(state)
