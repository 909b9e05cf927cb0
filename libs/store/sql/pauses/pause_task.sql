-- Has no further step of a task begin: what would is held. Says how the task stands.
WITH paused AS (
    UPDATE tasks SET paused = true
    WHERE task_id = $1 AND NOT paused AND NOT is_end(state)
    RETURNING task_id
), noted AS (
    INSERT INTO pauses (task_id, paused_by, reason) SELECT task_id, $2, $3 FROM paused
)
SELECT is_end(state) AS "ended!" FROM tasks WHERE task_id = $1
