-- The catalogue: what is known of the origins' files, and the tree that shows them.
-- One process writes (the library worker), any number read. A scan finds everything again, except the inode numbers:
-- they stay the same for as long as this file exists.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE origins (
    num        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    priority   INTEGER NOT NULL,
    enabled    INTEGER NOT NULL DEFAULT 1,  -- 0: not configured now; its replicas stay but are not shown
    reachable  INTEGER NOT NULL DEFAULT 1,  -- 0: unhealthy; its replicas rank last among variants
    scanned_at REAL,                        -- end of the last scan that completed, seconds since the epoch
    held       INTEGER NOT NULL DEFAULT 0,  -- files that are gone there but stay until the user confirms
    removed    INTEGER NOT NULL DEFAULT 0,  -- files removed since removed_since: many small removals count as a big one
    removed_since REAL NOT NULL DEFAULT 0,  -- seconds since the epoch
    accept     INTEGER NOT NULL DEFAULT 0   -- 1: the user has confirmed; the next complete scan may remove them
);

-- One exact sequence of bytes. AUTOINCREMENT: a number is never used for another content.
CREATE TABLE contents (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    fingerprint BLOB NOT NULL UNIQUE,
    size        INTEGER NOT NULL,
    tags        TEXT,                       -- JSON; NULL: not audio, or it could not be parsed
    problem     TEXT                        -- why it could not be parsed
);

-- One file at one origin, as it was last scanned.
CREATE TABLE replicas (
    id       INTEGER PRIMARY KEY,
    origin   INTEGER NOT NULL REFERENCES origins (num),
    path     BLOB NOT NULL,                 -- relative to the origin's root; bytes, for not every name is UTF-8
    folder   BLOB NOT NULL,                 -- its album's folder: the path's, without a trailing "CD 2"
    role     TEXT NOT NULL,                 -- 'audio' or 'sidecar'
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    etag     TEXT,
    content  INTEGER NOT NULL REFERENCES contents (id),
    UNIQUE (origin, path)
);
CREATE INDEX replicas_by_folder ON replicas (folder);
CREATE INDEX replicas_by_content ON replicas (content);

-- Where a replica asks to appear in the tree, before colliding names get their tags.
-- A tagged content asks once, through its first replica by path; sidecars and untagged files ask once per folder.
CREATE TABLE entries (
    replica   INTEGER NOT NULL REFERENCES replicas (id),
    dir       TEXT NOT NULL,                -- "/"-separated, no leading slash
    name      TEXT NOT NULL,
    disc_name TEXT NOT NULL,                -- the name if the album has several discs
    discs     INTEGER NOT NULL,             -- 1: this file's tags say that its album has several discs
    key       TEXT NOT NULL,                -- entries of one folder with equal keys are the same track
    content   INTEGER NOT NULL REFERENCES contents (id),
    PRIMARY KEY (replica, dir)
) WITHOUT ROWID;
CREATE INDEX entries_by_dir ON entries (dir);
CREATE INDEX entries_by_content ON entries (content);

-- The tree. ino is the inode number that the kernel sees, and it belongs to one content forever. To show another
-- variant of a track is to show another row, so no open file and no cached page ever mixes two contents.
-- At most one row of a name is shown. AUTOINCREMENT: an inode number is never used again.
CREATE TABLE nodes (
    ino      INTEGER PRIMARY KEY AUTOINCREMENT,
    parent   INTEGER NOT NULL,
    name     TEXT NOT NULL,
    shown    INTEGER NOT NULL,
    content  INTEGER,                       -- NULL: a directory
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL
);
CREATE UNIQUE INDEX nodes_by_name ON nodes (parent, name) WHERE shown = 1;
CREATE INDEX nodes_by_parent ON nodes (parent, ino);
CREATE INDEX nodes_hidden ON nodes (content) WHERE shown = 0;
INSERT INTO nodes (ino, parent, name, shown, content, size, mtime_ns) VALUES (1, 0, '', 1, NULL, 0, 0);
