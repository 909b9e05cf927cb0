-- Ends tasks by hand or by rule: Cancel, Timeout, ManualResolution, GiveUp. Their open steps are cancelled
-- with them, so that nothing unlocks or runs afterwards; steps that have failed stay so, and may be reset.
-- Messages of cancelled steps stay in their queues: whoever takes one finds nothing to do.
-- The caller holds the tasks, and names each once. Returns where each stands, with the deliveries that
-- workers have lost.
WITH item AS MATERIALIZED (
    SELECT item.*, tasks.state AS before, task_state_after(tasks.state, item.event) AS state
    FROM unnest($1::uuid[], $2::text[]::task_event[], $3::text[], $4::text[])
        AS item (task_id, event, actor, reason)
    JOIN tasks USING (task_id)
), ended AS (
    UPDATE tasks SET state = item.state, ready = 0, held = 0, in_flight = 0, waiting_for_retry = 0
    FROM item
    WHERE tasks.task_id = item.task_id AND item.state IS NOT NULL
    RETURNING tasks.task_id, tasks.state, tasks.watched OR tasks.awaited AS watched, item.event, item.actor, item.reason
), searchable AS (
    UPDATE task_search SET rests_in = ended.state, ended_at = now()
    FROM ended WHERE task_search.task_id = ended.task_id
), cancelled AS (
    UPDATE steps
    SET state = step_state_after(steps.state, 'Cancel'), delivery_id = NULL, retry_at = NULL
    FROM ended
    -- By an array: a join of two unknown sizes may read the table whole.
    WHERE steps.task_id = ANY($1) AND steps.task_id = ended.task_id
      AND steps.state <> 'error' AND step_state_after(steps.state, 'Cancel') IS NOT NULL
    RETURNING steps.task_id, steps.ordinal, steps.state, steps.attempt, ended.actor, ended.reason
), freed AS (
    DELETE FROM leases USING ended
    WHERE leases.task_id = ANY($1) AND leases.task_id = ended.task_id
    RETURNING leases.task_id, leases.delivery_id
), let_go AS (
    DELETE FROM held_steps USING ended
    WHERE held_steps.task_id = ANY($1) AND held_steps.task_id = ended.task_id
), task_history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor, reason)
    SELECT task_id, ARRAY[event], state, actor, reason FROM ended
), step_history AS (
    -- Written before the task's: PostgreSQL runs what nothing refers to from the last to the first.
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor, reason)
    SELECT task_id, ordinal, '{Cancel}', state, attempt, actor, reason FROM cancelled
)
SELECT item.task_id AS "task_id!", before::text AS "before!", ended.state::text AS "state?",
    coalesce(ended.watched, false) AS "watched!", NULL::uuid AS lost
FROM item LEFT JOIN ended USING (task_id)
UNION ALL
SELECT task_id, '', NULL, false, delivery_id FROM freed
