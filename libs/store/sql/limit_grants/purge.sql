-- Forgets what no limit counts any more, the oldest first, so many at most. What no rate counts but still is
-- in use is looked at and left: as many as run. So is what a rate counts that was registered since it began.
DELETE FROM limit_grants WHERE ctid = ANY(ARRAY(
    SELECT granted.ctid FROM limit_grants AS granted
    WHERE counts_until < now()
      AND (
        SELECT granted.granted_at + per_ms * interval '1 ms' >= now() FROM rate_windows
        WHERE (rate_windows.namespace, rate_windows.limit_name) = (granted.namespace, granted.limit_name)
    ) IS NOT TRUE
      -- By the step's key, in whatever order: an anti-join may read all steps.
      AND (
        SELECT is_in_use(steps.state, steps.attempt, granted.attempt) FROM steps
        WHERE (steps.task_id, steps.ordinal) = (granted.task_id, granted.ordinal)
    ) IS NOT TRUE
    ORDER BY counts_until LIMIT $1
    -- Another replica has the others.
    FOR UPDATE SKIP LOCKED
))
