-- What a file held before its present content, for as long as the catalogue has that: see predecessors.py. Later ones
-- have higher ids.
CREATE TABLE predecessors (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    content     INTEGER NOT NULL,           -- the present one
    fingerprint BLOB NOT NULL,              -- of the earlier content, which `contents` may no longer have
    size        INTEGER NOT NULL,
    UNIQUE (content, fingerprint)
);
CREATE TRIGGER predecessors_end AFTER DELETE ON contents BEGIN
    DELETE FROM predecessors WHERE content = OLD.id;
END;
