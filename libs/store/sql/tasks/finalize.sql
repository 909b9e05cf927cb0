-- Ends tasks in which nothing moves any more, or says why they rest: AllStepsSuccessful,
-- PermanentFailure, NoDependenciesReady; NoStepsFound for a task without steps. Those that cannot go on
-- by themselves are put among the dead letters.
-- A message whose task has moved on is taken all the same: nothing is left to do.
WITH deleted AS (
    -- By an array: a join believes that the queue is empty, and reads it whole.
    DELETE FROM pgmq.q_orchestration_task_finalizations WHERE msg_id = ANY($1::bigint[]) RETURNING msg_id
), taken AS (
    SELECT item.task_id
    FROM unnest($1::bigint[], $2::uuid[]) AS item (message_id, task_id)
    -- Within CASE it is looked up in a hash, and not joined.
    WHERE CASE WHEN message_id IN (SELECT msg_id FROM deleted) THEN true END
), judged AS MATERIALIZED (
    SELECT task_id, (CASE
        WHEN state = 'initializing' AND total = 0 THEN 'NoStepsFound'
        WHEN state <> 'evaluating_results' THEN NULL
        -- What is held runs on once it is let go, whatever has failed beside it.
        WHEN held > 0 THEN 'NoDependenciesReady'
        WHEN failed > 0 THEN 'PermanentFailure'
        WHEN satisfied = total THEN 'AllStepsSuccessful'
        ELSE 'NoDependenciesReady'
    END)::task_event AS event
    FROM tasks WHERE task_id IN (SELECT task_id FROM taken)
    ORDER BY task_id FOR NO KEY UPDATE
), moved AS (
    UPDATE tasks SET state = task_state_after(tasks.state, judged.event)
    FROM judged
    WHERE tasks.task_id = judged.task_id AND task_state_after(tasks.state, judged.event) IS NOT NULL
    RETURNING tasks.task_id, tasks.state, tasks.watched OR tasks.awaited AS watched, tasks.namespace, tasks.priority, judged.event
), searchable AS (
    UPDATE task_search
    SET rests_in = moved.state, ended_at = CASE WHEN is_end(moved.state) THEN now() END
    FROM moved
    WHERE task_search.task_id = moved.task_id AND moved.state <> 'waiting_for_dependencies'
), dead AS (
    INSERT INTO task_dead_letters (task_id, namespace, priority, reason, detail, actor, snapshot)
    SELECT task_id, namespace, priority,
        CASE
            WHEN moved.state = 'waiting_for_dependencies' THEN 'impossible'
            WHEN failed.may_be_retried THEN 'retries_exhausted'
            ELSE 'permanent_failure'
        END::dead_letter_reason,
        coalesce(failed.steps, 'none of its steps can ever become ready'), $3,
        task_snapshot(task_id, moved.state)
    FROM moved
    CROSS JOIN LATERAL (
        SELECT bool_or(retryable) AS may_be_retried,
            left(string_agg(format('%s: %s', name, error_type), ', ' ORDER BY ordinal), 1000) AS steps
        FROM steps LEFT JOIN step_results USING (task_id, ordinal)
        WHERE steps.task_id = moved.task_id AND steps.state = 'error'
          -- A worker that its batch passed over counts as done. By itself: a join may read all batches.
          AND (SELECT passed_over FROM step_batches AS batch
            WHERE (batch.task_id, batch.ordinal) = (steps.task_id, steps.ordinal)) IS NOT TRUE
    ) AS failed
    WHERE moved.state = 'blocked_by_failures'
        -- Nothing moves, and every step that is left waits for others.
        OR (moved.state = 'waiting_for_dependencies' AND NOT EXISTS (
            SELECT FROM steps
            WHERE steps.task_id = moved.task_id AND NOT is_settled(steps.state)
              AND (steps.state <> 'pending' OR unmet_dependencies = 0)
        ))
    -- One that was repaired and is blocked again, or was only late: how it stands now is what matters. What an
    -- operator or a parked message has it looked into for weighs more, and stays as it was found.
    ON CONFLICT (task_id) WHERE status = 'pending' DO UPDATE
    SET reason = EXCLUDED.reason, detail = EXCLUDED.detail, actor = EXCLUDED.actor, snapshot = EXCLUDED.snapshot
    WHERE task_dead_letters.reason NOT IN ('manual', 'poison_message')
), history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor)
    SELECT task_id, ARRAY[event], state, $3 FROM moved
)
SELECT task_id AS "task_id!", state::text AS "state!", watched AS "watched!" FROM moved
