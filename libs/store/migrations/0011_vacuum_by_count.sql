-- Dead rows of the hot tables are cleared away by their number. By default it is by their share: the
-- more tasks have finished, the more dead rows would be left among the few that still move.
-- What is finished is not read again: pages without dead rows are skipped.
ALTER TABLE tasks SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
ALTER TABLE steps SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
ALTER TABLE task_search SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
