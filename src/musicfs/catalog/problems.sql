-- What is not shown as it should be: see problems.py. The reasons are those of musicfs/problems.py.
CREATE TABLE problems (
    id        INTEGER PRIMARY KEY,
    origin    INTEGER NOT NULL REFERENCES origins (num),
    path      BLOB NOT NULL,                -- relative to the origin's root
    reason    TEXT NOT NULL,
    detail    TEXT NOT NULL,                -- what the system or the server said
    since     REAL NOT NULL,                -- when a scan first met it, seconds since the epoch
    dismissed INTEGER NOT NULL DEFAULT 0,   -- 1: the user wants to hear no more of it
    UNIQUE (origin, path, reason)
);
CREATE INDEX problems_by_reason ON problems (origin, reason, dismissed);
CREATE TABLE left_out_counts (              -- files that are counted and not named
    origin  INTEGER NOT NULL REFERENCES origins (num),
    reason  TEXT NOT NULL,
    subject TEXT NOT NULL,                  -- such as '.dff'; '': beyond the most problems that an origin may have
    files   INTEGER NOT NULL,
    PRIMARY KEY (origin, reason, subject)
) WITHOUT ROWID;
-- Those of covers and the like that have no place in the tree are counted again after each scan.
CREATE INDEX replicas_beside_music ON replicas (id) WHERE role <> 'audio';
INSERT INTO problems (origin, path, reason, detail, since)
    SELECT r.origin, r.path, 'damaged', substr(c.problem, 1, 200), CAST(strftime('%s', 'now') AS REAL)
    FROM contents c JOIN replicas r ON r.content = c.id WHERE c.problem IS NOT NULL;
-- A file that is shown without its tags has that problem only while it is shown.
CREATE TRIGGER problems_end AFTER DELETE ON replicas BEGIN
    DELETE FROM problems WHERE origin = old.origin AND path = old.path
        AND reason IN ('damaged', 'too-costly', 'tags-unknown', 'unresolved-entries');
END;
