-- Of some templates, those that are paused now, for what begins steps of tasks that it gives birth to: as
-- `paused_templates_now` of tasks that there are.
CREATE FUNCTION paused_now(of_templates uuid[]) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('tasker.pauses', 0));
    -- In statements of their own: they see what was paused while the one before waited.
    IF NOT EXISTS (SELECT FROM pauses WHERE task_id IS NULL AND resumed_at IS NULL) THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(
        SELECT template_id FROM (SELECT DISTINCT unnest(of_templates) AS template_id) AS used
        WHERE (SELECT true FROM paused_templates_by_id AS paused WHERE paused.template_id = used.template_id)
    );
END
$$;
