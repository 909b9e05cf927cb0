-- What holds steps back: one rule for who has a worker, slots that are free as soon as their steps do not
-- run, pauses that nothing passes by, and bounds for what is kept.

-- How many connected workers have a handler, for a namespace. Everything that asks this asks here.
CREATE FUNCTION workers_for(of_namespace text, of_callable text) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT count(*) FROM worker_sessions
WHERE expires_at > now() AND (
    -- Opened by a version that did not say.
    handlers = '{}' OR (of_namespace = ANY(namespaces) AND of_callable = ANY(handlers))
)
$$;

-- As in 0016, by that rule.
CREATE OR REPLACE FUNCTION get_step_readiness_status(of_task uuid) RETURNS TABLE (
    ordinal integer, declared integer, name text, state step_state, attempt integer, max_attempts integer,
    unmet_dependencies integer, blocked_by text[], since timestamptz, until timestamptz,
    worker_id text, queue_position bigint, workers bigint
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
        format('SELECT msg_id, message, enqueued_at FROM pgmq.%I', 'q_worker_' || namespace || '_queue'),
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
                row_number() OVER (
                    PARTITION BY message->>'callable'
                    ORDER BY message->'priority' DESC NULLS LAST, message->>'task_id', msg_id
                ) AS place
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
                    WHEN steps.state = 'enqueued' AND queue.place IS NOT NULL THEN 'queue' END,
                CASE WHEN held.task_id IS NULL AND queue.place IS NULL AND steps.unmet_dependencies = 0
                    AND steps.state IN ('pending', 'enqueued') AND NOT is_end(($1).state)
                    THEN 'enqueuing' END
            ], NULL) ELSE '{}' END,
            coalesce(leases.granted_at, held.held_at, queue.enqueued_at),
            coalesce(leases.times_out_at, steps.retry_at),
            session.worker_id, queue.place, able.workers
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

-- The steps that wait for a worker though no connected one has their handler, by namespace: in the worker
-- queues, and held by limits.
CREATE FUNCTION steps_without_worker() RETURNS TABLE (namespace text, steps bigint)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    queue text;
BEGIN
    FOR queue IN SELECT queue_name FROM pgmq.meta WHERE queue_name ~ '^worker_.*_queue$' LOOP
        RETURN QUERY EXECUTE format($query$
            SELECT $1, sum(waiting.steps)::bigint FROM (
                SELECT message->>'callable' AS callable, count(*) AS steps FROM pgmq.%I GROUP BY 1
            ) AS waiting
            WHERE workers_for($1, waiting.callable) = 0
            HAVING count(*) > 0
        $query$, 'q_' || queue) USING regexp_replace(queue, '^worker_(.*)_queue$', '\1');
    END LOOP;
    RETURN QUERY
        SELECT held.namespace, sum(held.steps)::bigint FROM (
            SELECT held_steps.namespace, callable, count(*) AS steps FROM held_steps
            WHERE limit_name IS NOT NULL GROUP BY 1, 2
        ) AS held
        WHERE workers_for(held.namespace, held.callable) = 0
        GROUP BY held.namespace;
END
$$;

-- Whether an attempt runs. One that was given back has its place anew, before it begins again.
CREATE OR REPLACE FUNCTION is_in_use(state step_state, attempt integer, granted integer) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT state = 'in_progress' AND attempt = granted
$$;

-- Of the templates of some tasks, those that are paused now, and not when the calling statement began: it
-- begins steps, and no pause or resume of a template commits until it has. Called before tasks are locked.
CREATE FUNCTION paused_templates_now(of_tasks uuid[]) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('tasker.pauses', 0));
    -- In statements of their own: they see what was paused while the one before waited.
    IF NOT EXISTS (SELECT FROM pauses WHERE task_id IS NULL AND resumed_at IS NULL) THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(
        SELECT template_id FROM (SELECT DISTINCT template_id FROM tasks WHERE task_id = ANY(of_tasks)) AS used
        WHERE (SELECT true FROM paused_templates_by_id AS paused WHERE paused.template_id = used.template_id)
    );
END
$$;

-- Where a pause of a task and its end stand in the task's history. None: before histories told of them.
ALTER TABLE pauses
    ADD COLUMN paused_as bigint,
    ADD COLUMN resumed_as bigint;

-- For a task's history, and for its purge.
CREATE INDEX pauses_by_task ON pauses (task_id) WHERE task_id IS NOT NULL;

-- Names what was asked for by hand, so that it may be repeated.
ALTER TABLE task_dead_letters ADD COLUMN request_id text;
CREATE UNIQUE INDEX a_request_makes_one_dead_letter ON task_dead_letters (request_id)
WHERE request_id IS NOT NULL;

-- Deletes durable domain events that nobody has read for so long, the oldest of each queue, at most so many
-- of each. Says how many.
CREATE FUNCTION purge_domain_events(older_than interval, at_most integer)
RETURNS TABLE (namespace text, purged bigint)
LANGUAGE plpgsql AS $$
DECLARE
    queue text;
BEGIN
    FOR queue IN SELECT queue_name FROM pgmq.meta WHERE queue_name ~ '_domain_events$' LOOP
        RETURN QUERY EXECUTE format($query$
            WITH purged AS (
                DELETE FROM pgmq.%1$I AS message USING (
                    -- Numbered in the order of their age: what is young ends the look.
                    SELECT msg_id, enqueued_at FROM pgmq.%1$I ORDER BY msg_id LIMIT $2
                ) AS oldest
                WHERE message.msg_id = oldest.msg_id AND oldest.enqueued_at < now() - $1
                RETURNING message.msg_id
            )
            SELECT $3, count(*) FROM purged HAVING count(*) > 0
        $query$, 'q_' || queue) USING older_than, at_most, regexp_replace(queue, '_domain_events$', '');
    END LOOP;
END
$$;
