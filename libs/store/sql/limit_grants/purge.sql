-- Forgets what no limit counts any more.
DELETE FROM limit_grants
WHERE counts_until < now() AND NOT EXISTS (
    SELECT FROM steps
    WHERE (steps.task_id, steps.ordinal) = (limit_grants.task_id, limit_grants.ordinal)
      AND is_in_use(steps.state, steps.attempt, limit_grants.attempt)
)
