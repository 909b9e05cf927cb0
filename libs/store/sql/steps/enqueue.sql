-- Puts ready steps into their worker queues: Enqueue. Those with a delivery go to a connected
-- worker at once, without a second queue: Enqueue, Start. Those that are paused, or have limits, are held
-- as they are; the last of its task that could be enqueued leaves that to what runs: StepsEnqueued, to what
-- waits for its back-off: RetryPending, or to whoever lets go what is held: NoDependenciesReady.
-- A message whose step may not be enqueued any more is taken all the same: nothing is left to do.
WITH deleted AS (
    -- By an array: a join believes that the queue is empty, and reads it whole.
    DELETE FROM pgmq.q_orchestration_ready_steps WHERE msg_id = ANY($1::bigint[]) RETURNING msg_id
), taken AS (
    SELECT item.*
    FROM unnest($1::bigint[], $2::uuid[], $3::integer[], $4::uuid[], $5::uuid[], $6::bigint[], $7::text[],
            $9::text[], $10::text[], $11::text[], $12::text[], $13::jsonb[])
        AS item (message_id, task_id, ordinal, delivery_id, session_id, timeout_ms, traceparent, queue,
            callable, limit_name, limit_value, limit_values)
    -- Within CASE it is looked up in a hash, and not joined.
    WHERE CASE WHEN message_id IN (SELECT msg_id FROM deleted) THEN true END
), stopped AS MATERIALIZED (
    SELECT paused_templates_now($2) AS templates
), locked AS (
    SELECT taken.*, tasks.template_id, tasks.priority, CASE
        WHEN tasks.paused THEN 'task_paused'
        WHEN tasks.template_id = ANY(stopped.templates) THEN 'template_paused'
        WHEN limit_name IS NOT NULL THEN 'limit'
    END::hold AS hold
    FROM stopped CROSS JOIN taken JOIN tasks USING (task_id)
    WHERE task_state_after(tasks.state, 'StepsEnqueued') IS NOT NULL
    ORDER BY task_id, ordinal FOR NO KEY UPDATE OF tasks
), holdable AS (
    -- A twin of a message may name a step that has moved on: held, it would be sent once more.
    SELECT locked.* FROM locked JOIN steps USING (task_id, ordinal)
    WHERE hold IS NOT NULL
      AND step_state_after(steps.state, 'Enqueue') IS NOT NULL AND steps.unmet_dependencies = 0
    FOR NO KEY UPDATE OF steps
), held AS (
    INSERT INTO held_steps (task_id, ordinal, hold, template_id, namespace, priority, callable, traceparent,
        limit_name, limit_value, limit_values)
    SELECT task_id, ordinal, hold, template_id, queue, priority, callable, traceparent,
        CASE hold WHEN 'limit' THEN limit_name END, CASE hold WHEN 'limit' THEN limit_value END,
        CASE hold WHEN 'limit' THEN limit_values END
    FROM holdable
    ON CONFLICT (task_id, ordinal) DO UPDATE
    -- A twin of what is held already: that has waited since.
    SET hold = EXCLUDED.hold, limit_name = EXCLUDED.limit_name,
        limit_value = EXCLUDED.limit_value, limit_values = EXCLUDED.limit_values
    -- No transaction has locked or updated a row that was not there.
    RETURNING task_id, xmax = 0 AS fresh
), moved AS (
    UPDATE steps
    SET state = CASE
            WHEN locked.delivery_id IS NULL THEN step_state_after(steps.state, 'Enqueue')
            ELSE step_state_after(step_state_after(steps.state, 'Enqueue'), 'Start')
        END,
        attempt = attempt + (locked.delivery_id IS NOT NULL)::integer,
        delivery_id = locked.delivery_id
    FROM locked
    WHERE (steps.task_id, steps.ordinal) = (locked.task_id, locked.ordinal)
      AND locked.hold IS NULL
      AND step_state_after(steps.state, 'Enqueue') IS NOT NULL AND steps.unmet_dependencies = 0
    RETURNING locked.*, steps.name, steps.attempt, steps.max_attempts, steps.state, steps.has_checkpoint,
        steps.declared
), let_go AS (
    -- A twin comes between the end of a pause and what lets go of what it held.
    DELETE FROM held_steps
    WHERE task_id = ANY(ARRAY(SELECT task_id FROM moved))
      AND CASE WHEN (task_id, ordinal) IN (SELECT task_id, ordinal FROM moved) THEN true END
    RETURNING task_id
), leased AS (
    INSERT INTO leases (task_id, ordinal, delivery_id, session_id, times_out_at)
    SELECT task_id, ordinal, delivery_id, session_id, now() + timeout_ms * interval '1 ms'
    FROM moved WHERE delivery_id IS NOT NULL
), waiting AS (
    -- An array a queue: that is how PGMQ takes a batch.
    SELECT queue AS namespace,
        array_agg(waiting_step(task_id, ordinal, template_id, moved.priority,
            callable, declared)) AS messages,
        array_agg(trace_headers(traceparent)) AS headers
    FROM moved
    WHERE delivery_id IS NULL
    GROUP BY queue
), queued AS MATERIALIZED (
    SELECT namespace, count(message_id) AS messages
    FROM waiting
    CROSS JOIN LATERAL pgmq.send_batch('worker_' || namespace || '_queue', messages, headers) AS message_id
    GROUP BY namespace
), counted AS (
    UPDATE tasks
    SET ready = tasks.ready - change.steps, in_flight = in_flight + change.steps,
        held = greatest(tasks.held + change.held, 0),
        state = CASE
            WHEN tasks.ready - change.steps > tasks.held + change.held THEN tasks.state
            WHEN in_flight + change.steps > 0 THEN task_state_after(tasks.state, 'StepsEnqueued')
            WHEN waiting_for_retry > 0 THEN task_state_after(tasks.state, 'RetryPending')
            ELSE task_state_after(tasks.state, 'NoDependenciesReady')
        END
    FROM (
        SELECT task_id, sum(steps)::integer AS steps, sum(held)::integer AS held
        FROM (
            SELECT task_id, 1 AS steps, 0 AS held FROM moved
            UNION ALL
            SELECT task_id, 0, 1 FROM held WHERE fresh
            UNION ALL
            SELECT task_id, 0, -1 FROM let_go
        ) AS part
        GROUP BY task_id
    ) AS change
    WHERE tasks.task_id = change.task_id
    RETURNING tasks.task_id, tasks.state, tasks.watched
), task_history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor)
    SELECT task_id,
        CASE state
            WHEN 'steps_in_process' THEN '{StepsEnqueued}'
            WHEN 'waiting_for_retry' THEN '{RetryPending}'
            ELSE '{NoDependenciesReady}'
        END::task_event[],
        state, $8
    FROM counted WHERE state <> 'enqueuing_steps'
), step_history AS (
    -- Written before the task's: PostgreSQL runs what nothing refers to from the last to the first.
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor)
    SELECT task_id, ordinal,
        CASE WHEN delivery_id IS NULL THEN '{Enqueue}' ELSE '{Enqueue,Start}' END::step_event[],
        state, attempt, $8
    FROM moved
)
SELECT 'moved' AS "kind!", task_id, ordinal, delivery_id, name, attempt, max_attempts, has_checkpoint,
    NULL AS namespace
FROM moved
UNION ALL
SELECT 'queued', NULL, NULL, NULL, NULL, NULL, NULL, NULL, namespace FROM queued
UNION ALL
SELECT 'watched', task_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM counted WHERE watched
