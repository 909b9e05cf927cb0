-- The states and events of both machines, as libs/domain has them.
CREATE TYPE task_state AS ENUM (
    'pending', 'initializing', 'enqueuing_steps', 'steps_in_process', 'evaluating_results',
    'waiting_for_dependencies', 'waiting_for_retry', 'blocked_by_failures',
    'complete', 'error', 'cancelled', 'resolved_manually'
);

CREATE TYPE task_event AS ENUM (
    'Start', 'ReadyStepsFound', 'NoDependenciesReady', 'NoStepsFound', 'StepsEnqueued',
    'EnqueueFailed', 'StepCompleted', 'StepFailed', 'StepResolved', 'AllStepsCompleted',
    'DependenciesReady', 'Reset', 'StepsStillInProcess', 'RetryPending', 'AllStepsSuccessful',
    'PermanentFailure', 'RetryReady', 'ManualResolution', 'GiveUp', 'Cancel', 'Timeout'
);

CREATE TYPE step_state AS ENUM (
    'pending', 'enqueued', 'in_progress', 'enqueued_for_orchestration',
    'enqueued_as_error_for_orchestration', 'waiting_for_retry',
    'complete', 'error', 'cancelled', 'resolved_manually'
);

CREATE TYPE step_event AS ENUM (
    'Enqueue', 'Start', 'Release', 'LeaseExpired', 'EnqueueForOrchestration',
    'EnqueueAsErrorForOrchestration', 'Complete', 'WaitForRetry', 'Fail', 'Retry',
    'ResetForRetry', 'Reopen', 'Cancel', 'CompleteManually', 'ResolveManually'
);

-- Groups of states, as libs/domain names them.
CREATE FUNCTION awaits_results(state task_state) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT state IN ('enqueuing_steps', 'steps_in_process', 'waiting_for_dependencies', 'waiting_for_retry')
$$;

CREATE FUNCTION is_end(state task_state) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT state IN ('complete', 'error', 'cancelled', 'resolved_manually')
$$;

CREATE FUNCTION is_settled(state step_state) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT state IN ('complete', 'cancelled', 'resolved_manually')
$$;

-- The machines: what follows an event, or NULL where it may not come. Every statement that moves
-- something asks them under the row's lock. Simple enough to be inlined.
CREATE FUNCTION task_state_after(state task_state, event task_event) RETURNS task_state
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE event
    WHEN 'Start' THEN CASE WHEN state = 'pending' THEN 'initializing'::task_state END
    WHEN 'ReadyStepsFound' THEN
        CASE WHEN state IN ('initializing', 'evaluating_results') THEN 'enqueuing_steps'::task_state END
    WHEN 'NoDependenciesReady' THEN
        CASE WHEN state IN ('initializing', 'evaluating_results') THEN 'waiting_for_dependencies'::task_state END
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
    WHEN 'RetryPending' THEN CASE WHEN state = 'evaluating_results' THEN 'waiting_for_retry'::task_state END
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

CREATE FUNCTION step_state_after(state step_state, event step_event) RETURNS step_state
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE event
    WHEN 'Enqueue' THEN CASE WHEN state = 'pending' THEN 'enqueued'::step_state END
    WHEN 'Start' THEN CASE WHEN state = 'enqueued' THEN 'in_progress'::step_state END
    WHEN 'Release' THEN CASE WHEN state = 'in_progress' THEN 'enqueued'::step_state END
    WHEN 'LeaseExpired' THEN
        CASE WHEN state = 'in_progress' THEN 'enqueued_as_error_for_orchestration'::step_state END
    WHEN 'EnqueueForOrchestration' THEN
        CASE WHEN state = 'in_progress' THEN 'enqueued_for_orchestration'::step_state END
    WHEN 'EnqueueAsErrorForOrchestration' THEN
        CASE WHEN state = 'in_progress' THEN 'enqueued_as_error_for_orchestration'::step_state END
    WHEN 'Complete' THEN CASE WHEN state = 'enqueued_for_orchestration' THEN 'complete'::step_state END
    WHEN 'WaitForRetry' THEN
        CASE WHEN state = 'enqueued_as_error_for_orchestration' THEN 'waiting_for_retry'::step_state END
    WHEN 'Fail' THEN
        CASE WHEN state IN ('pending', 'enqueued', 'enqueued_for_orchestration',
                'enqueued_as_error_for_orchestration') THEN 'error'::step_state END
    WHEN 'Retry' THEN CASE WHEN state = 'waiting_for_retry' THEN 'pending'::step_state END
    WHEN 'ResetForRetry' THEN CASE WHEN state = 'error' THEN 'pending'::step_state END
    WHEN 'Reopen' THEN CASE WHEN state = 'cancelled' THEN 'pending'::step_state END
    WHEN 'Cancel' THEN CASE WHEN NOT is_settled(state) THEN 'cancelled'::step_state END
    WHEN 'CompleteManually' THEN CASE WHEN NOT is_settled(state) THEN 'complete'::step_state END
    WHEN 'ResolveManually' THEN CASE WHEN NOT is_settled(state) THEN 'resolved_manually'::step_state END
END
$$;
