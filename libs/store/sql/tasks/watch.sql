-- Asks for a task's moves to be announced from now on, and says when it was born. Writes nothing if they
-- are announced already, or it has ended. The statement sees the task as it was before: read its moves
-- afterwards.
WITH asked AS (
    UPDATE tasks SET watched = true WHERE task_id = $1 AND NOT watched AND NOT is_end(state)
)
SELECT created_at FROM task_search WHERE task_id = $1
