-- Folders without folders in them, as the last complete scan of their origin met them: see folder_times.py.
-- What is in one that is here is in `replicas`, as it was when the folder had this time.
CREATE TABLE folder_times (
    origin   INTEGER NOT NULL REFERENCES origins (num),
    path     BLOB NOT NULL,                 -- relative to the origin's root
    mtime_ns INTEGER NOT NULL,
    since    REAL NOT NULL,                 -- when this time was met first, seconds since the epoch
    settled  INTEGER NOT NULL,              -- 1: it was listed again a while after that, so nothing can have been missed
    PRIMARY KEY (origin, path)
) WITHOUT ROWID;
