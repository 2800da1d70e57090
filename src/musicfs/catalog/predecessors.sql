-- What a file held before its present content, while that is here: see predecessors.py. The higher the id, the later.
CREATE TABLE predecessors (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    content     INTEGER NOT NULL,           -- the present one
    fingerprint BLOB NOT NULL,              -- of the one before, which `contents` need not have any more
    size        INTEGER NOT NULL,
    UNIQUE (content, fingerprint)
);
CREATE TRIGGER predecessors_end AFTER DELETE ON contents BEGIN
    DELETE FROM predecessors WHERE content = OLD.id;
END;
