-- When a step came into being, where that was later than its task: chosen by a decision, or as the worker of a
-- batch. Before that it was not pending. None of what was born before this migration.
ALTER TABLE steps ADD COLUMN born_at timestamptz;
