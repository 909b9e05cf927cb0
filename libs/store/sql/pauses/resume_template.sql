-- Ends the pause of a template; the caller lets go what it held. A version stays paused while all are.
-- Says whether there is such a template.
WITH noted AS (
    UPDATE pauses SET resumed_by = $4, resume_reason = $5, resumed_at = now()
    WHERE namespace = $1 AND name = $2 AND version = $3 AND task_id IS NULL AND resumed_at IS NULL
)
SELECT EXISTS (
    SELECT FROM templates WHERE namespace = $1 AND name = $2 AND ($3 = '' OR version = $3)
) AS "known!"
