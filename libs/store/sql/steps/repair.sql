-- Repairs steps by hand: ResetForRetry, ResolveManually, CompleteManually. An item names a step of its task,
-- or none: then all that have failed. If the task has failed, what its end has cancelled is reopened, and has
-- the attempts that are left; what was cut off in its last attempt has failed. What decides or plans is settled
-- only by an item that says what comes into being by it, which the caller then writes. What the caller has found
-- unfit is refused for that only where nothing else speaks against it.
-- The caller holds the tasks, names each once, and has them go on. Returns what became of each item, and
-- the steps that moved, with the deliveries that workers have lost.
WITH item AS MATERIALIZED (
    SELECT item.*, tasks.template_id, tasks.state AS task_state, CASE tasks.state
        WHEN 'error' THEN task_state_after(tasks.state, 'Reset')
        -- The finalizer's turn: it finds what is repaired before it comes.
        WHEN 'evaluating_results' THEN tasks.state
        ELSE task_state_after(tasks.state, 'StepResolved')
    END IS NOT NULL AS goes_on, EXISTS (
        SELECT FROM task_details WHERE task_details.task_id = item.task_id AND task_details.content_type = ''
    ) AS purged
    FROM unnest($1::uuid[], $2::text[], $3::text[]::step_event[], $4::text[], $5::bytea[], $6::jsonb[],
        $7::text[], $8::text[], $9::boolean[], $10::boolean[])
        AS item (task_id, name, event, content_type, data, metadata, actor, reason, says, unfit)
    JOIN tasks USING (task_id)
), step AS MATERIALIZED (
    -- Without the item's data, which would be as often in memory as the task has steps.
    SELECT item.task_id, task_state, item.name AS asked, event, actor, reason, goes_on, purged,
        unfit, undecided, ordinal, steps.name, steps.state AS before, attempt, delivery_id, chosen, path,
        CASE cardinality(path)
            WHEN 1 THEN step_state_after(steps.state, path[1])
            WHEN 2 THEN step_state_after(step_state_after(steps.state, path[1]), path[2])
        END AS state,
        bool_or(chosen) OVER of_task AS finds,
        bool_or(reopened) OVER of_task AS reopens
    FROM item
    -- By an array: a join of two unknown sizes may read the table whole.
    LEFT JOIN steps ON steps.task_id = item.task_id AND steps.task_id = ANY($1)
    CROSS JOIN LATERAL (SELECT
        task_state = 'error' AND step_state_after(steps.state, 'Reopen') IS NOT NULL AS reopened,
        -- The worker of a batch whose failure counts as done.
        steps.state = 'error' AND declared IS NOT NULL AND EXISTS (
            SELECT FROM step_batches AS batch
            WHERE (batch.task_id, batch.ordinal) = (steps.task_id, steps.ordinal) AND batch.passed_over
        ) AS passed_over
    ) AS a
    CROSS JOIN LATERAL (SELECT
        steps.state = 'error' AND NOT passed_over OR (reopened AND attempt >= max_attempts) AS failed
    ) AS b
    CROSS JOIN LATERAL (SELECT
        CASE WHEN item.name IS NULL THEN failed ELSE steps.name = item.name END AS chosen
    ) AS c
    CROSS JOIN LATERAL (SELECT CASE
        -- Others wait for its end, to have its place; or have gone on without it.
        WHEN chosen AND declared IS NOT NULL AND NOT reopened AND NOT failed THEN NULL
        WHEN chosen AND reopened AND event = 'ResetForRetry' THEN ARRAY['Reopen']::step_event[]
        WHEN chosen AND reopened THEN ARRAY['Reopen', event]::step_event[]
        WHEN chosen THEN ARRAY[event]
        WHEN reopened AND failed THEN ARRAY['Reopen', 'Fail']::step_event[]
        WHEN reopened THEN ARRAY['Reopen']::step_event[]
    END AS path,
        -- What would come into being by it nobody has said.
        chosen AND event <> 'ResetForRetry' AND NOT says AND coalesce((
            SELECT expands FROM template_steps AS declaration
            WHERE (declaration.template_id, declaration.ordinal) = (item.template_id, steps.ordinal)
        ), false) AS undecided
    ) AS d
    WINDOW of_task AS (PARTITION BY item.task_id)
), judged AS MATERIALIZED (
    SELECT *, CASE
        WHEN NOT goes_on THEN 'task_stands'
        -- What its steps would work on is not there any more.
        WHEN purged THEN 'purged'
        WHEN asked IS NOT NULL AND finds IS NOT TRUE THEN 'no_step'
        WHEN bool_or(chosen AND state IS NULL) OVER (PARTITION BY task_id) THEN 'step_stands'
        WHEN unfit THEN 'unfit'
        WHEN bool_or(undecided) OVER (PARTITION BY task_id) THEN 'undecided'
        WHEN finds OR (reopens AND event = 'ResetForRetry') THEN 'repaired'
        ELSE 'nothing_failed'
    END AS verdict
    FROM step
), moved AS (
    UPDATE steps
    SET state = judged.state, delivery_id = NULL, retry_at = NULL,
        attempt = CASE WHEN chosen AND event = 'ResetForRetry' THEN 0 ELSE steps.attempt END,
        -- The worker of a batch waits for a place among the others.
        unmet_dependencies = CASE
            WHEN chosen AND event = 'ResetForRetry' AND declared IS NOT NULL THEN 1
            ELSE unmet_dependencies
        END
    FROM judged
    WHERE (steps.task_id, steps.ordinal) = (judged.task_id, judged.ordinal)
      AND verdict = 'repaired' AND path IS NOT NULL
    RETURNING steps.task_id, steps.ordinal, steps.name, steps.state, steps.attempt, chosen, event, path,
        actor, reason, judged.delivery_id
), completed AS (
    INSERT INTO step_results (task_id, ordinal, attempt, content_type, data, metadata)
    SELECT task_id, ordinal, attempt, content_type, data, metadata
    FROM moved JOIN item USING (task_id)
    WHERE chosen AND moved.event = 'CompleteManually'
    ON CONFLICT (task_id, ordinal) DO UPDATE
    SET attempt = EXCLUDED.attempt, content_type = EXCLUDED.content_type, data = EXCLUDED.data,
        metadata = EXCLUDED.metadata, error_type = NULL, error_message = NULL, retryable = NULL,
        recorded_at = EXCLUDED.recorded_at
), cut_off AS (
    INSERT INTO step_results (task_id, ordinal, attempt, error_type, error_message, retryable)
    SELECT task_id, ordinal, attempt, 'CUT_OFF',
        'its last attempt was cut off when its task ended: reset the step to run it again', false
    FROM moved WHERE NOT chosen AND state = 'error'
    ON CONFLICT (task_id, ordinal) DO UPDATE
    SET attempt = EXCLUDED.attempt, content_type = NULL, data = NULL, metadata = NULL,
        error_type = EXCLUDED.error_type, error_message = EXCLUDED.error_message,
        retryable = EXCLUDED.retryable, recorded_at = EXCLUDED.recorded_at
), dropped AS (
    -- A result that came and was not judged before its step was resolved: dependants run without it.
    DELETE FROM step_results
    WHERE task_id = ANY($1) AND data IS NOT NULL
      AND (task_id, ordinal) IN (SELECT task_id, ordinal FROM moved WHERE state = 'resolved_manually')
), let_go AS (
    -- Its task is counted anew.
    DELETE FROM held_steps
    WHERE task_id = ANY($1) AND (task_id, ordinal) IN (SELECT task_id, ordinal FROM moved)
), freed AS (
    DELETE FROM leases
    WHERE task_id = ANY($1) AND (task_id, ordinal) IN (SELECT task_id, ordinal FROM moved)
), history AS (
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor, reason)
    SELECT task_id, ordinal, path, state, attempt, actor, reason FROM moved
)
SELECT DISTINCT verdict AS "kind!", task_id AS "task_id!", NULL::integer AS ordinal, NULL::text AS name,
    task_state::text AS state, NULL::uuid AS lost
FROM judged WHERE verdict NOT IN ('step_stands', 'undecided')
UNION ALL
SELECT verdict, task_id, ordinal, name, before::text, NULL FROM judged
WHERE verdict = 'step_stands' AND chosen AND state IS NULL OR verdict = 'undecided' AND undecided
UNION ALL
SELECT CASE WHEN chosen THEN 'chosen' ELSE 'reopened' END, task_id, ordinal, name, state::text, delivery_id
FROM moved
