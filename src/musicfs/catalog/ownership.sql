-- Symbolic links that an origin's `links` setting leaves out, as the last scans met them: see left_out.py.
CREATE TABLE left_out (
    origin INTEGER NOT NULL REFERENCES origins (num),
    path   BLOB NOT NULL,                   -- relative to the origin's root
    PRIMARY KEY (origin, path)
) WITHOUT ROWID;
ALTER TABLE origins ADD COLUMN left_out INTEGER NOT NULL DEFAULT 0;  -- how many of these it has
ALTER TABLE origins ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;    -- files that went from the tree because of them

-- Whom a file belongs to and who may read it, narrowed by the folders above it. NULL: the origin knows of no owners, or
-- the file has not been listed since they are noted. mode: the three read bits, as in 0444.
ALTER TABLE replicas ADD COLUMN uid INTEGER;
ALTER TABLE replicas ADD COLUMN gid INTEGER;
ALTER TABLE replicas ADD COLUMN mode INTEGER;
-- Those of the copy that most users may read: the same bytes can't be more secret in one place than in another.
-- mode: with 01000 where a copy without an owner is there, too.
ALTER TABLE nodes ADD COLUMN uid INTEGER;
ALTER TABLE nodes ADD COLUMN gid INTEGER;
ALTER TABLE nodes ADD COLUMN mode INTEGER;
