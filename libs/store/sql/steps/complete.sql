-- Ends steps well: EnqueueForOrchestration, Complete for workers that still hold them, Complete for
-- results that were queued. Unlocks their children and moves their tasks; one whose last step this is ends
-- here: AllStepsSuccessful. A child for which a result brings a place at a worker begins there at once:
-- Enqueue, Start; the others are sent as ready, and so are those that are paused. What is not plain is left
-- alone but on the long way. Names each step once: a twin waits for the next batch. Returns a verdict each,
-- what was started, and the messages sent.
WITH item AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::bigint[], $2::uuid[], $3::integer[], $4::uuid[], $5::text[], $6::bytea[], $7::jsonb[],
        $8::text[], $9::text[], $11::jsonb[]
    ) WITH ORDINALITY AS item (
        message_id, task_id, ordinal, delivery_id, content_type, data, metadata,
        worker_id, traceparent,
        -- By child: delivery, session, and how long the attempt may take, in ms.
        places, position
    )
), taken AS (
    -- By an array: a join believes that the queue is empty, and reads it whole.
    DELETE FROM pgmq.q_orchestration_step_results
    WHERE msg_id = ANY(ARRAY(
        SELECT message_id FROM item
        WHERE message_id IS NOT NULL AND ($12 OR coalesce((
            SELECT plain FROM steps WHERE (steps.task_id, steps.ordinal) = (item.task_id, item.ordinal)
        ), true))
    ))
    RETURNING msg_id
), stopped AS MATERIALIZED (
    SELECT paused_templates_now($2) AS templates WHERE EXISTS (SELECT FROM item WHERE places IS NOT NULL)
), judged AS (
    -- Judged under the locks. The delivery is the fence: a worker presumed lost comes with an old one.
    SELECT item.*, tasks.template_id, CASE
        WHEN NOT (plain OR $12) THEN 'not_plain'
        WHEN message_id IS NULL AND steps.delivery_id = item.delivery_id
            AND step_state_after(steps.state, 'EnqueueForOrchestration') IS NOT NULL
            AND task_state_after(tasks.state, 'StepCompleted') IS NOT NULL THEN 'committed'
        WHEN message_id IN (SELECT msg_id FROM taken) AND steps.accepted_delivery_id = item.delivery_id
            AND step_state_after(steps.state, 'Complete') IS NOT NULL
            AND task_state_after(tasks.state, 'StepCompleted') IS NOT NULL THEN 'committed'
        WHEN steps.accepted_delivery_id = item.delivery_id THEN 'duplicate'
        ELSE 'lease_lost'
    END AS verdict,
    CASE WHEN tasks.paused OR tasks.template_id = ANY(stopped.templates) THEN NULL
        ELSE places
    END AS open_places
    FROM item LEFT JOIN stopped ON true JOIN tasks USING (task_id) JOIN steps USING (task_id, ordinal)
    ORDER BY task_id, ordinal FOR NO KEY UPDATE OF tasks, steps
), completed AS (
    UPDATE steps
    SET state = CASE
            WHEN judged.message_id IS NULL
                THEN step_state_after(step_state_after(steps.state, 'EnqueueForOrchestration'), 'Complete')
            ELSE step_state_after(steps.state, 'Complete')
        END,
        delivery_id = NULL, accepted_delivery_id = judged.delivery_id
    FROM judged
    WHERE (steps.task_id, steps.ordinal) = (judged.task_id, judged.ordinal)
      AND judged.verdict = 'committed'
    RETURNING steps.task_id, steps.ordinal, coalesce(steps.declared, steps.ordinal) AS declared,
        steps.attempt, steps.state, judged.message_id,
        judged.content_type, judged.data, judged.metadata, judged.worker_id, judged.traceparent,
        judged.template_id, judged.open_places AS places
), recorded AS (
    INSERT INTO step_results (task_id, ordinal, attempt, content_type, data, metadata)
    SELECT task_id, ordinal, attempt, content_type, data, metadata
    FROM completed WHERE message_id IS NULL
    ON CONFLICT (task_id, ordinal) DO UPDATE
    SET attempt = EXCLUDED.attempt, content_type = EXCLUDED.content_type, data = EXCLUDED.data,
        metadata = EXCLUDED.metadata, error_type = NULL, error_message = NULL, retryable = NULL,
        recorded_at = EXCLUDED.recorded_at
), freed AS (
    -- By an array, and within CASE in a hash: a join believes that there are no leases, and looks at all
    -- of them for each step.
    DELETE FROM leases
    WHERE task_id = ANY(ARRAY(SELECT task_id FROM completed))
      AND CASE WHEN (task_id, ordinal) IN (SELECT task_id, ordinal FROM completed) THEN true END
), met AS (
    -- Counted first: an UPDATE that joins a child to two parents would take off only one.
    SELECT task_id, child, count(*)::integer AS parents, max(traceparent) AS traceparent,
        -- Where two parents bring a place, either will do.
        max(places->>child::text)::jsonb AS place
    FROM completed
    JOIN template_dependencies AS dependency
        ON (dependency.template_id, parent) = (completed.template_id, declared)
    GROUP BY task_id, child
), unlocked AS (
    UPDATE steps
    SET unmet_dependencies = unmet_dependencies - met.parents,
        state = CASE
            WHEN unmet_dependencies = met.parents AND place IS NOT NULL THEN coalesce(
                step_state_after(step_state_after(steps.state, 'Enqueue'), 'Start'), steps.state)
            ELSE steps.state
        END,
        attempt = CASE
            WHEN unmet_dependencies = met.parents AND place IS NOT NULL
                AND step_state_after(steps.state, 'Enqueue') IS NOT NULL THEN attempt + 1
            ELSE attempt
        END,
        delivery_id = CASE
            WHEN unmet_dependencies = met.parents AND place IS NOT NULL
                AND step_state_after(steps.state, 'Enqueue') IS NOT NULL THEN (place->>0)::uuid
            ELSE delivery_id
        END
    FROM met
    WHERE (steps.task_id, steps.ordinal) = (met.task_id, met.child)
    RETURNING steps.task_id, steps.ordinal, steps.name, steps.attempt, steps.max_attempts, steps.state,
        steps.delivery_id, met.traceparent, met.place,
        steps.state = 'pending' AND steps.unmet_dependencies = 0 AS ready,
        coalesce(steps.delivery_id = (met.place->>0)::uuid, false) AS started
), leased AS (
    INSERT INTO leases (task_id, ordinal, delivery_id, session_id, times_out_at)
    SELECT task_id, ordinal, delivery_id, (place->>1)::uuid, now() + (place->>2)::bigint * interval '1 ms'
    FROM unlocked WHERE started
), ready AS (
    INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
    SELECT clock_timestamp(),
        ready_step(task_id, ordinal, namespace, template_id, priority, NULL),
        trace_headers(traceparent)
    FROM unlocked JOIN tasks USING (task_id)
    WHERE unlocked.ready
    RETURNING msg_id, message, headers
), change AS (
    SELECT task_id, sum(done)::integer AS done, sum(ready)::integer AS ready,
        sum(started)::integer AS started, max(traceparent) AS traceparent
    FROM (
        SELECT task_id, 1 AS done, 0 AS ready, 0 AS started, traceparent FROM completed
        UNION ALL
        SELECT task_id, 0, ready::integer, started::integer, NULL FROM unlocked
    ) AS part
    GROUP BY task_id
), counted AS (
    UPDATE tasks
    SET ready = tasks.ready + change.ready, in_flight = in_flight - change.done + change.started,
        satisfied = satisfied + change.done,
        state = CASE
            WHEN tasks.ready + change.ready > held
                THEN task_state_after(task_state_after(tasks.state, 'StepCompleted'), 'ReadyStepsFound')
            WHEN change.started > 0
                THEN task_state_after(task_state_after(task_state_after(
                    tasks.state, 'StepCompleted'), 'ReadyStepsFound'), 'StepsEnqueued')
            WHEN in_flight - change.done > 0
                THEN task_state_after(task_state_after(tasks.state, 'StepCompleted'), 'StepsStillInProcess')
            WHEN waiting_for_retry > 0
                THEN task_state_after(task_state_after(tasks.state, 'StepCompleted'), 'RetryPending')
            -- Nothing is left to judge.
            WHEN satisfied + change.done = total
                THEN task_state_after(task_state_after(tasks.state, 'StepCompleted'), 'AllStepsSuccessful')
            -- Nothing moves, and something is left: the finalizer's turn.
            ELSE task_state_after(tasks.state, 'StepCompleted')
        END
    FROM change
    WHERE tasks.task_id = change.task_id
    RETURNING tasks.task_id, tasks.state, tasks.paused, tasks.total, tasks.watched, tasks.awaited,
        tasks.awaited_by_many, change.traceparent, change.started
), searchable AS (
    UPDATE task_search SET rests_in = counted.state, ended_at = now()
    FROM counted
    WHERE task_search.task_id = counted.task_id AND counted.state = 'complete'
), finalizable AS (
    INSERT INTO pgmq.q_orchestration_task_finalizations (vt, message, headers)
    SELECT clock_timestamp(), finalization(task_id), trace_headers(traceparent)
    FROM counted WHERE state = 'evaluating_results'
    RETURNING msg_id, message, headers
), task_history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor)
    SELECT task_id,
        CASE
            WHEN state = 'enqueuing_steps' THEN '{StepCompleted,ReadyStepsFound}'
            WHEN state = 'steps_in_process' AND started > 0 THEN '{StepCompleted,ReadyStepsFound,StepsEnqueued}'
            WHEN state = 'steps_in_process' THEN '{StepCompleted,StepsStillInProcess}'
            WHEN state = 'waiting_for_retry' THEN '{StepCompleted,RetryPending}'
            WHEN state = 'complete' THEN '{StepCompleted,AllStepsSuccessful}'
            ELSE '{StepCompleted}'
        END::task_event[],
        state, $10
    FROM counted
), step_history AS (
    -- Written before the task's: PostgreSQL runs what nothing refers to from the last to the first.
    -- A parent's end is numbered before its child's beginning.
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor)
    SELECT task_id, ordinal,
        CASE WHEN message_id IS NULL THEN '{EnqueueForOrchestration,Complete}' ELSE '{Complete}' END::step_event[],
        state, attempt, worker_id
    FROM completed
    UNION ALL
    SELECT task_id, ordinal, '{Enqueue,Start}', state, attempt, $10 FROM unlocked WHERE started
)
SELECT 'verdict' AS "kind!", position, verdict, NULL::bigint AS message_id, NULL::jsonb AS message,
    NULL::jsonb AS headers, NULL::uuid AS task_id, NULL::integer AS ordinal, NULL::uuid AS delivery_id,
    NULL::text AS name, NULL::integer AS attempt, NULL::integer AS max_attempts,
    NULL::timestamptz AS ended_at, NULL::integer AS total, NULL::boolean AS paused
FROM judged
UNION ALL
SELECT 'started', NULL, NULL, NULL, NULL, NULL, task_id, ordinal, delivery_id, name, attempt, max_attempts,
    NULL, NULL, NULL
FROM unlocked WHERE started
UNION ALL
SELECT 'ready', NULL, NULL, msg_id, message, headers, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM ready
UNION ALL
SELECT 'finalization', NULL, NULL, msg_id, message, headers, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM finalizable
UNION ALL
SELECT
    CASE
        WHEN state <> 'complete' THEN 'watched'
        WHEN watched OR awaited_by_many THEN 'rested'
        ELSE 'awaited'
    END,
    NULL, NULL, NULL, NULL, NULL, task_id, NULL, NULL, NULL, NULL, NULL, now(), total, paused
FROM counted WHERE watched OR (awaited AND state = 'complete')
