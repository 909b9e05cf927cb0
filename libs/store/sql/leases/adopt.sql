-- Gives leases to a new session of the same worker. Returns those that were still its own.
WITH mine AS (
    SELECT leases.task_id, leases.ordinal
    FROM unnest($1::uuid[], $2::integer[], $3::uuid[]) AS held (task_id, ordinal, delivery_id)
    JOIN leases USING (task_id, ordinal, delivery_id)
    JOIN worker_sessions AS old USING (session_id)
    WHERE leases.task_id = ANY($1) AND old.worker_id = $4
    ORDER BY leases.task_id, leases.ordinal FOR NO KEY UPDATE OF leases
)
UPDATE leases SET session_id = $5
FROM mine WHERE leases.task_id = ANY($1) AND (leases.task_id, leases.ordinal) = (mine.task_id, mine.ordinal)
RETURNING leases.delivery_id,
    extract(epoch FROM leases.times_out_at - now())::double precision AS "time_left_s!"
