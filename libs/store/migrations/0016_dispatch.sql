-- What holds back steps that are ready, or that wait for a worker; and what says why a step does not run.

-- Read under the lock that every statement takes which begins a step.
ALTER TABLE tasks ADD COLUMN paused boolean NOT NULL DEFAULT false;

-- Who paused what, and why; kept when it is over.
CREATE TABLE pauses (
    pause_id      uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    -- Of a task, or of the dispatch of a template: of all its versions if none is named.
    task_id       uuid,
    namespace     text,
    name          text,
    version       text,
    paused_by     text        NOT NULL,
    reason        text        NOT NULL,
    paused_at     timestamptz NOT NULL DEFAULT now(),
    resumed_by    text,
    resume_reason text,
    resumed_at    timestamptz,
    CONSTRAINT a_pause_is_of_a_task_or_of_a_template CHECK (
        (task_id IS NULL) = (namespace IS NOT NULL)
        AND (task_id IS NULL) = (name IS NOT NULL)
        AND (task_id IS NULL) = (version IS NOT NULL)
    ),
    CONSTRAINT what_is_resumed_says_by_whom_when_and_why CHECK (
        (resumed_at IS NULL) = (resumed_by IS NULL) AND (resumed_at IS NULL) = (resume_reason IS NULL)
    )
);

CREATE UNIQUE INDEX a_task_is_paused_once ON pauses (task_id)
    WHERE task_id IS NOT NULL AND resumed_at IS NULL;
CREATE UNIQUE INDEX a_template_is_paused_once ON pauses (namespace, name, version)
    WHERE task_id IS NULL AND resumed_at IS NULL;

-- Versions that are registered during a pause of all versions are among them.
CREATE VIEW paused_templates AS
SELECT template_id
FROM pauses JOIN templates USING (namespace, name)
WHERE task_id IS NULL AND resumed_at IS NULL AND pauses.version IN ('', templates.version);

CREATE TYPE hold AS ENUM ('task_paused', 'template_paused');

-- Steps whose message was taken, and that may not begin: as good as a message. Their states are unchanged,
-- `pending` or `enqueued`; they are judged again when they are let go.
CREATE TABLE held_steps (
    task_id     uuid        NOT NULL,
    ordinal     integer     NOT NULL,
    hold        hold        NOT NULL,
    template_id uuid        NOT NULL,
    -- Whose workers run it.
    namespace   text        NOT NULL,
    priority    smallint    NOT NULL,
    callable    text        NOT NULL,
    traceparent text        NOT NULL,
    held_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, ordinal)
);

-- For a template's resume.
CREATE INDEX held_steps_by_template ON held_steps (template_id, task_id);
-- For a namespace's backlog.
CREATE INDEX held_steps_by_namespace ON held_steps (namespace);

-- Lets a worker queue be read by priority, too: what is urgent does not wait behind a long backlog.
-- By the value as JSON, which compares numbers as numbers and takes whatever a message says.
CREATE FUNCTION order_queue_by_priority(queue text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    index_name text := 'q_' || queue || '_by_priority';
BEGIN
    -- Asked first: CREATE INDEX would lock the queue to find out.
    IF to_regclass(format('pgmq.%I', index_name)) IS NULL THEN
        EXECUTE format(
            'CREATE INDEX %I ON pgmq.%I ((message->''priority'') DESC NULLS LAST, msg_id)',
            index_name, 'q_' || queue
        );
    END IF;
END
$$;

SELECT order_queue_by_priority(queue_name) FROM pgmq.meta WHERE queue_name ~ '^worker_.*_queue$';

-- What stands in the way of each step of a task. For operators, and for ExplainStep; nothing moves by it.
--
-- `declared`: the ordinal of the template's step that it is, or is a run of.
-- `blocked_by`: all that does, the nearest first: `task_ended`, `dependencies`, `back_off`, `task_paused`,
-- `template_paused`, another hold by its name, `no_worker`, `queue`, `enqueuing`. Empty for a step that runs,
-- is judged or has ended.
-- `since`: when it began to run, to wait in its queue, or to be held. `until`: when its back-off is over,
-- or its attempt times out. `queue_position`: among those that wait for the same handler, 1 is the next.
-- `workers`: connected ones that have its handler.
CREATE FUNCTION get_step_readiness_status(of_task uuid) RETURNS TABLE (
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
            SELECT count(*) AS workers FROM worker_sessions AS other
            WHERE other.expires_at > now() AND (
                -- Opened by a version that did not say.
                other.handlers = '{}'
                OR (coalesce(declaration.queue, ($1).namespace) = ANY(other.namespaces)
                    AND declaration.callable = ANY(other.handlers))
            )
        ) AS able
        WHERE steps.task_id = ($1).task_id
        ORDER BY steps.ordinal
    $query$, queues) USING task;
END
$$;
