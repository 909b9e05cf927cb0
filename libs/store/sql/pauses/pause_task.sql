-- Has no further step of a task begin: what would is held. Says how the task stands.
WITH paused AS (
    UPDATE tasks SET paused = true
    WHERE task_id = $1 AND NOT paused AND NOT is_end(state)
    RETURNING task_id, watched
), noted AS (
    INSERT INTO pauses (task_id, paused_by, reason, paused_as)
    SELECT task_id, $2, $3, nextval('transition_ids') FROM paused
)
SELECT is_end(state) AS "ended!", coalesce((SELECT watched FROM paused), false) AS "watched!"
FROM tasks WHERE task_id = $1
