-- Symbolic links that an origin's `links` setting leaves out, as the last scans found them: see left_out.py.
CREATE TABLE left_out (
    origin INTEGER NOT NULL REFERENCES origins (num),
    path   BLOB NOT NULL,                   -- relative to the origin's root
    PRIMARY KEY (origin, path)
) WITHOUT ROWID;
ALTER TABLE origins ADD COLUMN left_out INTEGER NOT NULL DEFAULT 0;  -- how many of these links it has
ALTER TABLE origins ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;    -- files that left the tree because of them

-- The owner of a file and who may read it, with the modes of the folders above it taken into account. NULL: the origin
-- has no owners, or no scan has listed the file since the catalogue records them. mode: the three read bits, as in 0444.
ALTER TABLE replicas ADD COLUMN uid INTEGER;
ALTER TABLE replicas ADD COLUMN gid INTEGER;
ALTER TABLE replicas ADD COLUMN mode INTEGER;
-- The owner and mode of the copy that most users may read: the same bytes can't be more secret in one place than in
-- another. mode: with 01000 if there is also a copy without an owner.
ALTER TABLE nodes ADD COLUMN uid INTEGER;
ALTER TABLE nodes ADD COLUMN gid INTEGER;
ALTER TABLE nodes ADD COLUMN mode INTEGER;
