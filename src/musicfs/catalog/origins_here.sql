-- What of an origin is true on this host alone, apart from what every host that shares the catalogue would agree on.
CREATE TABLE origins_here (
    origin    INTEGER PRIMARY KEY REFERENCES origins (num),
    priority  INTEGER NOT NULL,
    enabled   INTEGER NOT NULL DEFAULT 1,   -- 0: not configured now; its replicas stay but are not shown
    reachable INTEGER NOT NULL DEFAULT 1    -- 0: unhealthy; its replicas rank last among variants
);
INSERT INTO origins_here SELECT num, priority, enabled, reachable FROM origins;

-- Without ALTER TABLE DROP COLUMN, which SQLite has since 3.35.
DROP TRIGGER replica_comes;
DROP TRIGGER replica_goes;
DROP TRIGGER replica_changes;
CREATE TABLE origins_next (
    num           INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    scanned_at    REAL,                        -- end of the last scan that completed, seconds since the epoch
    held          INTEGER NOT NULL DEFAULT 0,  -- files that are gone there but stay until the user confirms
    removed       INTEGER NOT NULL DEFAULT 0,  -- files removed since removed_since: many small removals count as a big one
    removed_since REAL NOT NULL DEFAULT 0,     -- seconds since the epoch
    accept        INTEGER NOT NULL DEFAULT 0,  -- 1: the user has confirmed; the next complete scan may remove them
    files         INTEGER NOT NULL DEFAULT 0,  -- how many replicas it has, and their size together
    bytes         INTEGER NOT NULL DEFAULT 0,
    left_out      INTEGER NOT NULL DEFAULT 0,  -- how many symbolic links its `links` setting leaves out
    hidden        INTEGER NOT NULL DEFAULT 0   -- files that left the tree because of them
);
INSERT INTO origins_next
    SELECT num, id, scanned_at, held, removed, removed_since, accept, files, bytes, left_out, hidden FROM origins;
DROP TABLE origins;
ALTER TABLE origins_next RENAME TO origins;
CREATE TRIGGER replica_comes AFTER INSERT ON replicas BEGIN
    UPDATE origins SET files = files + 1, bytes = bytes + new.size WHERE num = new.origin;
END;
CREATE TRIGGER replica_goes AFTER DELETE ON replicas BEGIN
    UPDATE origins SET files = files - 1, bytes = bytes - old.size WHERE num = old.origin;
END;
CREATE TRIGGER replica_changes AFTER UPDATE OF size ON replicas WHEN old.size <> new.size BEGIN
    UPDATE origins SET bytes = bytes + new.size - old.size WHERE num = new.origin;
END;

CREATE VIEW configured AS                   -- the origins that take part on this host
    SELECT o.num, o.id, h.priority, h.reachable FROM origins o JOIN origins_here h ON h.origin = o.num
    WHERE h.enabled = 1;
