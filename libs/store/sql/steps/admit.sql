-- Begins steps that limits held: Enqueue, Start; or Start, of those that were given back. A task that waited for
-- them moves on: RetryReady, StepsEnqueued; ReadyStepsFound, where the finalizer has not seen that it waits.
-- The caller has locked their limits, and judged what is in use of them. What is paused meanwhile is held by that; what another
-- limit holds waits for that one; what has moved on is forgotten.
WITH stopped AS MATERIALIZED (
    SELECT paused_templates_now($1) AS templates
), locked AS (
    SELECT item.*, tasks.template_id, tasks.watched, steps.state AS before, tasks.state AS task_state, enqueuing, CASE
        WHEN tasks.paused THEN 'task_paused'
        WHEN tasks.template_id = ANY(stopped.templates) THEN 'template_paused'
    END::hold AS hold,
    CASE
        WHEN steps.state = 'enqueued' THEN NOT is_end(tasks.state)
        ELSE task_state_after(enqueuing, 'StepsEnqueued') IS NOT NULL
    END AS may
    FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::uuid[], $5::bigint[])
        AS item (task_id, ordinal, delivery_id, session_id, timeout_ms)
    CROSS JOIN stopped
    JOIN tasks USING (task_id)
    JOIN steps USING (task_id, ordinal)
    CROSS JOIN LATERAL (SELECT coalesce(task_state_after(tasks.state, 'RetryReady'),
        task_state_after(tasks.state, 'ReadyStepsFound'), tasks.state) AS enqueuing) AS of_task
    WHERE tasks.task_id = ANY($1)
    ORDER BY task_id, ordinal FOR NO KEY UPDATE OF tasks, steps
), moved AS (
    UPDATE steps
    SET state = step_state_after(coalesce(step_state_after(steps.state, 'Enqueue'), steps.state), 'Start'),
        attempt = attempt + 1, delivery_id = locked.delivery_id
    FROM locked
    WHERE (steps.task_id, steps.ordinal) = (locked.task_id, locked.ordinal)
      AND locked.hold IS NULL AND locked.may
      AND step_state_after(coalesce(step_state_after(steps.state, 'Enqueue'), steps.state), 'Start') IS NOT NULL
      AND steps.unmet_dependencies = 0
    RETURNING locked.*, steps.name, steps.attempt, steps.max_attempts, steps.state, steps.has_checkpoint
), leased AS (
    INSERT INTO leases (task_id, ordinal, delivery_id, session_id, times_out_at)
    SELECT task_id, ordinal, delivery_id, session_id, now() + timeout_ms * interval '1 ms' FROM moved
), freed AS (
    -- By an array, here and below: a join believes that there are none, and looks at all for each step.
    DELETE FROM held_steps USING locked
    WHERE held_steps.task_id = ANY($1)
      AND (held_steps.task_id, held_steps.ordinal) = (locked.task_id, locked.ordinal)
      AND locked.hold IS NULL
    RETURNING locked.task_id, locked.task_state, locked.enqueuing, locked.before
), paused AS (
    UPDATE held_steps SET hold = locked.hold, limit_name = NULL, limit_value = NULL, limit_values = NULL
    FROM locked
    WHERE held_steps.task_id = ANY($1)
      AND (held_steps.task_id, held_steps.ordinal) = (locked.task_id, locked.ordinal)
      AND locked.hold IS NOT NULL
), refused AS (
    UPDATE held_steps SET limit_name = other.name, limit_value = other.value
    FROM unnest($6::uuid[], $7::integer[], $8::text[], $9::text[])
        AS other (task_id, ordinal, name, value)
    WHERE held_steps.task_id = ANY($6)
      AND (held_steps.task_id, held_steps.ordinal) = (other.task_id, other.ordinal)
      AND held_steps.limit_name IS NOT NULL
), outdated AS (
    -- Of an attempt with the same number before the step was reset.
    UPDATE limit_grants SET attempt = 0
    FROM moved
    WHERE limit_grants.task_id = ANY($1)
      AND (limit_grants.task_id, limit_grants.ordinal) = (moved.task_id, moved.ordinal)
      AND limit_grants.attempt = moved.attempt
), granted AS (
    INSERT INTO limit_grants (namespace, limit_name, limit_value, task_id, ordinal, attempt,
        granted_at, counts_until)
    SELECT $10, taken.name, taken.value, task_id, ordinal, moved.attempt,
        -- As long as the rate of any template counts it, whatever the step's own does.
        clock_timestamp(), clock_timestamp() + greatest(taken.per_ms, (
            SELECT per_ms FROM rate_windows WHERE (namespace, limit_name) = ($10, taken.name)
        )) * interval '1 ms'
    FROM unnest($11::uuid[], $12::integer[], $13::text[], $14::text[], $15::bigint[])
        AS taken (task_id, ordinal, name, value, per_ms)
    JOIN moved USING (task_id, ordinal)
), counted AS (
    UPDATE tasks
    SET ready = tasks.ready - change.steps, in_flight = in_flight + change.steps,
        held = greatest(tasks.held - change.freed, 0),
        state = CASE
            -- Others of its steps are about to be enqueued.
            WHEN change.steps = 0 OR tasks.ready - change.steps > greatest(tasks.held - change.freed, 0)
                THEN tasks.state
            ELSE task_state_after(enqueuing, 'StepsEnqueued')
        END
    FROM (
        SELECT task_id, task_state, enqueuing, sum(steps)::integer AS steps, sum(freed)::integer AS freed
        FROM (
            SELECT task_id, task_state, enqueuing, 1 AS steps, 0 AS freed FROM moved WHERE before = 'pending'
            UNION ALL
            SELECT task_id, task_state, enqueuing, 0, 1 FROM freed WHERE before = 'pending'
        ) AS part
        GROUP BY task_id, task_state, enqueuing
    ) AS change
    WHERE tasks.task_id = change.task_id
    RETURNING tasks.task_id, tasks.state, change.task_state
), task_history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor)
    SELECT task_id,
        CASE task_state
            WHEN 'enqueuing_steps' THEN '{StepsEnqueued}'
            WHEN 'evaluating_results' THEN '{ReadyStepsFound,StepsEnqueued}'
            ELSE '{RetryReady,StepsEnqueued}'
        END::task_event[],
        state, $16
    FROM counted WHERE state <> task_state
), step_history AS (
    -- Written before the task's: PostgreSQL runs what nothing refers to from the last to the first.
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor)
    SELECT task_id, ordinal,
        CASE before WHEN 'pending' THEN '{Enqueue,Start}' ELSE '{Start}' END::step_event[],
        state, attempt, $16
    FROM moved
)
SELECT task_id AS "task_id!", ordinal AS "ordinal!", delivery_id AS "delivery_id!", name AS "name!",
    attempt AS "attempt!", max_attempts AS "max_attempts!", has_checkpoint AS "has_checkpoint!",
    watched AS "watched!"
FROM moved
