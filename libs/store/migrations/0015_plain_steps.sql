-- Whether a step's result concerns only the step and its dependants: most do. The others are settled
-- the long way, in a transaction that can do more (docs/decisions/0016).
ALTER TABLE template_steps ADD COLUMN plain boolean NOT NULL DEFAULT true;
ALTER TABLE steps ADD COLUMN plain boolean NOT NULL DEFAULT true;
