-- A task in which nothing moves but what is held waits for dependencies: it counts what is held of it.

-- How many of its ready steps have a row in held_steps. No bound from above: a replica of the version before
-- does not count what it holds or begins, and the reconciler sets it right.
ALTER TABLE tasks ADD COLUMN held integer NOT NULL DEFAULT 0
    CONSTRAINT what_is_held_is_counted CHECK (held >= 0);

-- Weaker than the one before, so what is there need not be looked at.
ALTER TABLE tasks
    DROP CONSTRAINT a_complete_blocked_or_waiting_task_has_nothing_moving,
    ADD CONSTRAINT a_complete_blocked_or_waiting_task_has_nothing_moving CHECK (
        state NOT IN ('complete', 'blocked_by_failures', 'waiting_for_dependencies')
        OR (ready <= held AND in_flight = 0 AND waiting_for_retry = 0)
    ) NOT VALID;

-- As in 0001, and from enqueuing_steps NoDependenciesReady and RetryPending: the last step that could be
-- enqueued is held.
CREATE OR REPLACE FUNCTION task_state_after(state task_state, event task_event) RETURNS task_state
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE event
    WHEN 'Start' THEN CASE WHEN state = 'pending' THEN 'initializing'::task_state END
    WHEN 'ReadyStepsFound' THEN
        CASE WHEN state IN ('initializing', 'evaluating_results') THEN 'enqueuing_steps'::task_state END
    WHEN 'NoDependenciesReady' THEN
        CASE WHEN state IN ('initializing', 'enqueuing_steps', 'evaluating_results')
            THEN 'waiting_for_dependencies'::task_state END
    WHEN 'NoStepsFound' THEN CASE WHEN state = 'initializing' THEN 'complete'::task_state END
    WHEN 'StepsEnqueued' THEN CASE WHEN state = 'enqueuing_steps' THEN 'steps_in_process'::task_state END
    WHEN 'EnqueueFailed' THEN CASE WHEN state = 'enqueuing_steps' THEN 'error'::task_state END
    WHEN 'StepCompleted' THEN CASE WHEN awaits_results(state) THEN 'evaluating_results'::task_state END
    WHEN 'StepFailed' THEN CASE WHEN awaits_results(state) THEN 'evaluating_results'::task_state END
    WHEN 'AllStepsCompleted' THEN CASE WHEN awaits_results(state) THEN 'evaluating_results'::task_state END
    WHEN 'DependenciesReady' THEN CASE WHEN awaits_results(state) THEN 'evaluating_results'::task_state END
    WHEN 'StepResolved' THEN
        CASE WHEN awaits_results(state) OR state = 'blocked_by_failures' THEN 'evaluating_results'::task_state END
    WHEN 'Reset' THEN CASE WHEN state = 'error' THEN 'evaluating_results'::task_state END
    WHEN 'StepsStillInProcess' THEN CASE WHEN state = 'evaluating_results' THEN 'steps_in_process'::task_state END
    WHEN 'RetryPending' THEN
        CASE WHEN state IN ('enqueuing_steps', 'evaluating_results') THEN 'waiting_for_retry'::task_state END
    WHEN 'AllStepsSuccessful' THEN CASE WHEN state = 'evaluating_results' THEN 'complete'::task_state END
    WHEN 'PermanentFailure' THEN CASE WHEN state = 'evaluating_results' THEN 'blocked_by_failures'::task_state END
    WHEN 'RetryReady' THEN
        CASE WHEN state IN ('steps_in_process', 'waiting_for_retry', 'waiting_for_dependencies')
            THEN 'enqueuing_steps'::task_state END
    WHEN 'ManualResolution' THEN CASE WHEN state = 'blocked_by_failures' THEN 'resolved_manually'::task_state END
    WHEN 'GiveUp' THEN CASE WHEN state = 'blocked_by_failures' THEN 'error'::task_state END
    WHEN 'Cancel' THEN CASE WHEN NOT is_end(state) THEN 'cancelled'::task_state END
    WHEN 'Timeout' THEN CASE WHEN NOT is_end(state) THEN 'error'::task_state END
END
$$;
