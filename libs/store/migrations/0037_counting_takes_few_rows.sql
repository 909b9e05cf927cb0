-- What is counted for plans is counted under load, and took a core for half a second at a time: 30,000 rows of
-- each table, with all that is in them. Hot statements find rows by key, whatever was counted.
--
-- A tenth of those rows is enough for the tables that move, and payloads tell nothing. Lists of tasks are
-- planned by what task_search holds: that stays. So do queues, which are mostly empty.
DO $$
DECLARE
    counted record;
BEGIN
    FOR counted IN
        SELECT attrelid::regclass AS relation, attname, atttypid IN ('bytea'::regtype, 'jsonb'::regtype) AS is_payload
        FROM pg_attribute
        WHERE attrelid IN (
            'tasks'::regclass, 'task_details'::regclass, 'task_identities'::regclass,
            'steps'::regclass, 'step_results'::regclass
        ) AND attnum > 0 AND NOT attisdropped
    LOOP
        EXECUTE format(
            'ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s',
            counted.relation, counted.attname, CASE WHEN counted.is_payload THEN 0 ELSE 10 END
        );
    END LOOP;
END
$$;

-- History is only ever found by its task, or dropped: it is not counted at all.
DO $$
DECLARE
    part regclass;
BEGIN
    -- As whoever makes and drops them.
    PERFORM pg_advisory_xact_lock(hashtext('tasker.maintain_history'));
    FOR part IN
        SELECT inhrelid FROM pg_inherits
        WHERE inhparent IN ('task_transitions'::regclass, 'step_transitions'::regclass)
    LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_analyze_threshold = 2147483647)', part);
    END LOOP;
END
$$;

-- As in 0007, with partitions that are not counted.
CREATE OR REPLACE FUNCTION maintain_history(days_ahead integer, keep interval)
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
                    'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)
                     WITH (autovacuum_analyze_threshold = 2147483647)',
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
