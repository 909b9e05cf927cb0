-- Has repaired tasks go on: Reset where one had failed, else StepResolved; then what its steps say. They are
-- counted anew, so that the counts are right wherever each came from. Those of the steps named that are ready
-- now are sent. The caller holds the tasks, and names each once.
WITH item AS MATERIALIZED (
    SELECT item.*, tasks.state AS before, CASE tasks.state
        WHEN 'error' THEN 'Reset' WHEN 'evaluating_results' THEN NULL ELSE 'StepResolved'
    END::task_event AS event
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS item (task_id, actor, reason)
    JOIN tasks USING (task_id)
), counts AS MATERIALIZED (
    SELECT task_id,
        count(*) FILTER (WHERE state = 'pending' AND unmet_dependencies = 0)::integer AS ready,
        count(held.ordinal) FILTER (WHERE state = 'pending' AND unmet_dependencies = 0)::integer AS held,
        count(*) FILTER (WHERE state IN ('enqueued', 'in_progress', 'enqueued_for_orchestration',
            'enqueued_as_error_for_orchestration'))::integer AS in_flight,
        count(*) FILTER (WHERE state = 'waiting_for_retry')::integer AS waiting_for_retry,
        count(*) FILTER (WHERE state = 'error' AND NOT passed_over)::integer AS failed,
        count(*) FILTER (WHERE passed_over OR state IN ('complete', 'resolved_manually'))::integer
            AS satisfied
    FROM steps
    LEFT JOIN held_steps AS held USING (task_id, ordinal)
    CROSS JOIN LATERAL (SELECT state = 'error' AND declared IS NOT NULL AND EXISTS (
        SELECT FROM step_batches AS batch
        WHERE (batch.task_id, batch.ordinal) = (steps.task_id, steps.ordinal) AND batch.passed_over
    ) AS passed_over) AS of_batch
    WHERE task_id = ANY($1)
    GROUP BY task_id
), judged AS MATERIALIZED (
    SELECT item.*, ready, held, in_flight, waiting_for_retry, failed, satisfied, CASE
        WHEN ready > held THEN 'ReadyStepsFound'
        WHEN in_flight > 0 THEN 'StepsStillInProcess'
        WHEN waiting_for_retry > 0 THEN 'RetryPending'
        -- Nothing moves: the finalizer's turn.
    END::task_event AS next
    FROM item JOIN counts USING (task_id)
), moved AS (
    UPDATE tasks
    SET ready = judged.ready, held = judged.held, in_flight = judged.in_flight, failed = judged.failed,
        waiting_for_retry = judged.waiting_for_retry, satisfied = judged.satisfied,
        state = CASE
            WHEN event IS NULL AND next IS NULL THEN tasks.state
            WHEN event IS NULL THEN task_state_after(tasks.state, next)
            WHEN next IS NULL THEN task_state_after(tasks.state, event)
            ELSE task_state_after(task_state_after(tasks.state, event), next)
        END
    FROM judged
    WHERE tasks.task_id = judged.task_id
    RETURNING tasks.task_id, tasks.state, tasks.watched, tasks.namespace, tasks.template_id, tasks.priority,
        array_remove(ARRAY[event, next], NULL) AS events, actor, reason
), searchable AS (
    UPDATE task_search SET rests_in = NULL, ended_at = NULL
    FROM moved WHERE task_search.task_id = moved.task_id AND rests_in IS NOT NULL
), limited AS (
    -- Its limits count anew. Whoever looks at it forgets it if there are none.
    INSERT INTO limited_tasks (task_id, look_at)
    SELECT task_id, now() FROM moved WHERE 'Reset' = ANY(events)
    ON CONFLICT (task_id) DO UPDATE SET began_at = now(), look_at = now(), health = 'healthy'
), due AS MATERIALIZED (
    -- By itself, so that each step is found by its whole key, and not among all of its task.
    SELECT task_id, ordinal, declared
    FROM unnest($4::uuid[], $5::integer[]) AS touched (task_id, ordinal)
    JOIN steps USING (task_id, ordinal)
    WHERE steps.state = 'pending' AND unmet_dependencies = 0
), ready AS (
    INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
    SELECT clock_timestamp(),
        ready_step(task_id, ordinal, namespace, template_id, priority, declared),
        trace_headers(traceparent)
    FROM due JOIN moved USING (task_id) JOIN task_details USING (task_id)
    RETURNING msg_id, message, headers
), finalizable AS (
    INSERT INTO pgmq.q_orchestration_task_finalizations (vt, message, headers)
    SELECT clock_timestamp(), finalization(task_id), trace_headers(traceparent)
    FROM moved JOIN task_details USING (task_id)
    WHERE state = 'evaluating_results'
    RETURNING msg_id, message, headers
), history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor, reason)
    SELECT task_id, events, state, actor, reason FROM moved WHERE events <> '{}'
)
SELECT 'ready' AS "kind!", msg_id AS message_id, message, headers, NULL::uuid AS task_id FROM ready
UNION ALL
SELECT 'finalization', msg_id, message, headers, NULL FROM finalizable
UNION ALL
SELECT 'watched', NULL, NULL, NULL, task_id FROM moved WHERE watched
