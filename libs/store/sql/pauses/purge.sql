-- Forgets pauses with the history that tells of them: those that ended long ago, and those of tasks that ended
-- long ago and were not resumed before.
DELETE FROM pauses
WHERE resumed_at < now() - $1::integer * interval '1 day' OR (
    resumed_at IS NULL AND task_id IS NOT NULL AND (
        SELECT ended_at < now() - $1::integer * interval '1 day' FROM task_search WHERE task_search.task_id = pauses.task_id
    )
)
