-- Folders without folders in them, as the last complete scan of their origin found them: see folder_times.py.
-- `replicas` has the files of each as they were when the folder had this time.
CREATE TABLE folder_times (
    origin   INTEGER NOT NULL REFERENCES origins (num),
    path     BLOB NOT NULL,                 -- relative to the origin's root
    mtime_ns INTEGER NOT NULL,
    since    REAL NOT NULL,                 -- when a scan first found this time, seconds since the epoch
    settled  INTEGER NOT NULL,              -- 1: a later scan listed it with the same time, so no change can be missing
    PRIMARY KEY (origin, path)
) WITHOUT ROWID;
