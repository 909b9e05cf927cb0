-- What stands in the way of a task's steps: those that wait in their queue for a time say until when, and have no
-- place in it; the worker of a batch whose failure counts as done stands in nobody's way.
DROP FUNCTION get_step_readiness_status(uuid);

CREATE FUNCTION get_step_readiness_status(of_task uuid) RETURNS TABLE (
    ordinal integer, declared integer, name text, state step_state, attempt integer, max_attempts integer,
    unmet_dependencies integer, blocked_by text[], since timestamptz, until timestamptz,
    worker_id text, queue_position bigint, workers bigint, passed_over boolean
)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    task   tasks;
    queues text;
BEGIN
    SELECT * INTO task FROM tasks WHERE task_id = of_task;
    IF task.task_id IS NULL THEN
        RETURN;
    END IF;
    SELECT string_agg(
        format('SELECT msg_id, message, enqueued_at, vt FROM pgmq.%I', 'q_worker_' || namespace || '_queue'),
        ' UNION ALL '
    ) INTO queues
    FROM (
        SELECT task.namespace
        UNION
        SELECT queue FROM template_steps WHERE template_id = task.template_id AND queue IS NOT NULL
    ) AS used (namespace);
    RETURN QUERY EXECUTE format($query$
        WITH queue AS (
            SELECT message->>'task_id' AS task_id, message->>'ordinal' AS ordinal, enqueued_at,
                CASE WHEN vt > statement_timestamp() THEN vt END AS delayed_until,
                CASE WHEN vt <= statement_timestamp() THEN row_number() OVER (
                    -- Those that wait for a time go before nobody.
                    PARTITION BY message->>'callable', vt > statement_timestamp()
                    ORDER BY message->'priority' DESC NULLS LAST, message->>'task_id', msg_id
                ) END AS place
            FROM (%s) AS waiting
        )
        SELECT steps.ordinal, coalesce(steps.declared, steps.ordinal), steps.name, steps.state, steps.attempt, steps.max_attempts,
            steps.unmet_dependencies,
            CASE WHEN steps.state IN ('pending', 'enqueued', 'waiting_for_retry') THEN array_remove(ARRAY[
                CASE WHEN is_end(($1).state) THEN 'task_ended' END,
                CASE WHEN steps.unmet_dependencies > 0 THEN 'dependencies' END,
                CASE WHEN steps.state = 'waiting_for_retry' THEN 'back_off' END,
                CASE WHEN ($1).paused THEN 'task_paused' END,
                CASE WHEN ($1).template_id IN (SELECT template_id FROM paused_templates)
                    THEN 'template_paused' END,
                CASE WHEN held.hold::text NOT IN ('task_paused', 'template_paused') THEN held.hold::text END,
                CASE WHEN able.workers = 0 THEN 'no_worker'
                    WHEN steps.state = 'enqueued' AND queue.task_id IS NOT NULL THEN 'queue' END,
                CASE WHEN held.task_id IS NULL AND queue.task_id IS NULL AND steps.unmet_dependencies = 0
                    AND steps.state IN ('pending', 'enqueued') AND NOT is_end(($1).state)
                    THEN 'enqueuing' END
            ], NULL) ELSE '{}' END,
            coalesce(leases.granted_at, held.held_at, queue.enqueued_at),
            coalesce(leases.times_out_at, steps.retry_at, queue.delayed_until),
            session.worker_id, queue.place, able.workers,
            steps.state = 'error' AND steps.declared IS NOT NULL AND EXISTS (
                SELECT FROM step_batches AS batch
                WHERE (batch.task_id, batch.ordinal) = (steps.task_id, steps.ordinal) AND batch.passed_over
            )
        FROM steps
        LEFT JOIN template_steps AS declaration ON (declaration.template_id, declaration.ordinal)
            = (($1).template_id, coalesce(steps.declared, steps.ordinal))
        LEFT JOIN leases ON (leases.task_id, leases.ordinal) = (steps.task_id, steps.ordinal)
        LEFT JOIN worker_sessions AS session USING (session_id)
        LEFT JOIN held_steps AS held ON (held.task_id, held.ordinal) = (steps.task_id, steps.ordinal)
        LEFT JOIN queue ON steps.state = 'enqueued'
            AND (queue.task_id, queue.ordinal) = (steps.task_id::text, steps.ordinal::text)
        CROSS JOIN LATERAL (
            SELECT workers_for(coalesce(declaration.queue, ($1).namespace), declaration.callable) AS workers
        ) AS able
        WHERE steps.task_id = ($1).task_id
        ORDER BY steps.ordinal
    $query$, queues) USING task;
END
$$;
