-- Ends the pause of a task; the caller lets go what it held. Says how the task stands.
WITH resumed AS (
    UPDATE tasks SET paused = false WHERE task_id = $1 AND paused RETURNING task_id, watched
), noted AS (
    UPDATE pauses
    SET resumed_by = $2, resume_reason = $3, resumed_at = now(), resumed_as = nextval('transition_ids')
    FROM resumed WHERE pauses.task_id = resumed.task_id AND resumed_at IS NULL
)
SELECT is_end(state) AND NOT EXISTS (SELECT FROM resumed) AS "ended!", coalesce((SELECT watched FROM resumed), false) AS "watched!"
FROM tasks WHERE task_id = $1
