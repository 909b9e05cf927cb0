-- Forgets what lies in no day's partition, since none was made in time, with the days that are dropped.
DELETE FROM step_transitions_default WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM step_transitions_default
    WHERE occurred_at < (now() - $1::integer * interval '1 day')::date LIMIT $2
))
