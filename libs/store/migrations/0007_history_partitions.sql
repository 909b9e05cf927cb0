-- Makes the partitions of the days from today on, and drops those older than `keep`.
-- Says how many it made and dropped. Replicas may call it at once.
CREATE FUNCTION maintain_history(days_ahead integer, keep interval)
RETURNS TABLE (made integer, dropped integer)
LANGUAGE plpgsql AS $$
DECLARE
    parent   text;
    day      date;
    part     text;
    old_part record;
BEGIN
    made := 0;
    dropped := 0;
    PERFORM pg_advisory_xact_lock(hashtext('tasker.maintain_history'));
    FOREACH parent IN ARRAY ARRAY['task_transitions', 'step_transitions'] LOOP
        FOR day IN SELECT current_date + n FROM generate_series(0, days_ahead) AS n LOOP
            part := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
            -- A day whose rows already lie in the default partition stays there.
            IF to_regclass(part) IS NULL AND NOT in_default_partition(parent, day) THEN
                EXECUTE format(
                    'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                    part, parent, day, day + 1
                );
                made := made + 1;
            END IF;
        END LOOP;
        FOR old_part IN
            SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = parent::regclass
              AND c.relname ~ (parent || '_\d{8}$')
              AND to_date(right(c.relname, 8), 'YYYYMMDD') < (now() - keep)::date
        LOOP
            EXECUTE format('DROP TABLE %I', old_part.relname);
            dropped := dropped + 1;
        END LOOP;
    END LOOP;
    RETURN NEXT;
END
$$;

CREATE FUNCTION in_default_partition(parent text, day date) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    found_one boolean;
BEGIN
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM %I WHERE occurred_at >= %L AND occurred_at < %L)',
        parent || '_default', day, day + 1
    ) INTO found_one;
    RETURN found_one;
END
$$;
