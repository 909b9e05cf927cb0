-- Gives steps from a worker queue to workers: Start. Those that are paused are held as they are.
-- A message whose step does not wait any more is taken all the same: nothing is left to do.
WITH taken AS (
    SELECT item.*
    FROM unnest($2::bigint[], $3::uuid[], $4::integer[], $5::uuid[], $6::uuid[], $7::bigint[],
            $9::text[], $10::text[])
        AS item (message_id, task_id, ordinal, delivery_id, session_id, timeout_ms, callable, traceparent)
    -- Within CASE it is looked up in a hash, and not joined.
    WHERE CASE WHEN message_id IN (SELECT pgmq.delete($1::text, $2::bigint[])) THEN true END
), stopped AS MATERIALIZED (
    SELECT paused_templates_now($3) AS templates
), locked AS (
    -- The task is locked though it does not move: what happened to it is numbered in the order of commits.
    -- Its steps are not joined here: through the task, each would be looked for among all of them.
    SELECT taken.*, tasks.watched, tasks.template_id, tasks.priority, CASE
        WHEN tasks.paused THEN 'task_paused'
        WHEN tasks.template_id = ANY(stopped.templates) THEN 'template_paused'
    END::hold AS hold
    FROM stopped CROSS JOIN taken JOIN tasks USING (task_id)
    ORDER BY task_id, ordinal FOR NO KEY UPDATE OF tasks
), holdable AS (
    -- A twin of a message may name a step that has moved on: held, it would be sent once more.
    SELECT locked.* FROM locked JOIN steps USING (task_id, ordinal)
    WHERE hold IS NOT NULL AND step_state_after(steps.state, 'Start') IS NOT NULL
    FOR NO KEY UPDATE OF steps
), held AS (
    INSERT INTO held_steps (task_id, ordinal, hold, template_id, namespace, priority, callable, traceparent)
    SELECT task_id, ordinal, hold, template_id, $11, priority, callable, traceparent
    FROM holdable
    ON CONFLICT (task_id, ordinal) DO UPDATE
    -- A twin of what is held already: that has waited since.
    SET hold = EXCLUDED.hold, limit_name = NULL, limit_value = NULL,
        limit_values = NULL
), moved AS (
    UPDATE steps
    SET state = step_state_after(steps.state, 'Start'), attempt = attempt + 1,
        delivery_id = locked.delivery_id
    FROM locked
    WHERE (steps.task_id, steps.ordinal) = (locked.task_id, locked.ordinal)
      AND locked.hold IS NULL
      AND step_state_after(steps.state, 'Start') IS NOT NULL
    RETURNING locked.*, steps.name, steps.attempt, steps.max_attempts, steps.state, steps.has_checkpoint
), let_go AS (
    -- A twin comes between the end of a pause and what lets go of what it held.
    DELETE FROM held_steps
    WHERE task_id = ANY(ARRAY(SELECT task_id FROM moved))
      AND CASE WHEN (task_id, ordinal) IN (SELECT task_id, ordinal FROM moved) THEN true END
), leased AS (
    INSERT INTO leases (task_id, ordinal, delivery_id, session_id, times_out_at)
    SELECT task_id, ordinal, delivery_id, session_id, now() + timeout_ms * interval '1 ms'
    FROM moved
), history AS (
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor)
    SELECT task_id, ordinal, '{Start}', state, attempt, $8 FROM moved
)
SELECT task_id AS "task_id!", ordinal AS "ordinal!", delivery_id AS "delivery_id!", name AS "name!",
    attempt AS "attempt!", max_attempts AS "max_attempts!", has_checkpoint AS "has_checkpoint!",
    watched AS "watched!"
FROM moved
