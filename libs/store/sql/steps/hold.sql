-- Takes steps from a worker queue that have limits: they were given back, and are held as others are. What
-- does not wait any more is taken all the same: nothing is left to do. Returns how many are held.
WITH taken AS (
    SELECT item.*
    FROM pgmq.delete($1::text, $2::bigint[]) AS message_id
    JOIN unnest($2::bigint[], $3::uuid[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::jsonb[])
        AS item (message_id, task_id, ordinal, callable, traceparent, limit_name, limit_value, limit_values)
        USING (message_id)
), locked AS (
    SELECT taken.*, tasks.template_id, tasks.priority
    FROM taken JOIN tasks USING (task_id) JOIN steps USING (task_id, ordinal)
    WHERE steps.state = 'enqueued'
    ORDER BY task_id, ordinal FOR NO KEY UPDATE OF tasks, steps
), held AS (
    INSERT INTO held_steps (task_id, ordinal, hold, template_id, namespace, priority, callable, traceparent,
        limit_name, limit_value, limit_values)
    SELECT task_id, ordinal, 'limit', template_id, $10, priority, callable, traceparent,
        limit_name, limit_value, limit_values
    FROM locked
    ON CONFLICT (task_id, ordinal) DO UPDATE
    -- A twin of what is held already: that has waited since.
    SET hold = EXCLUDED.hold, limit_name = EXCLUDED.limit_name,
        limit_value = EXCLUDED.limit_value, limit_values = EXCLUDED.limit_values
    RETURNING held_steps.task_id
)
SELECT count(*) AS "held!" FROM held
