-- How the entries spell the directories of the tree: see spellings.py.
CREATE TABLE spellings (
    dir     TEXT PRIMARY KEY,               -- as in `entries`; also the directories above those
    folded  TEXT NOT NULL,                  -- what all spellings of one directory have in common
    entries INTEGER NOT NULL,               -- how many are in and below it; 0 until the tree shows that none is
    tracks  INTEGER NOT NULL                -- how many of them are music
) WITHOUT ROWID;
CREATE INDEX spellings_by_folded ON spellings (folded);
CREATE INDEX spellings_unused ON spellings (dir) WHERE entries = 0;
DELETE FROM meta WHERE key = 'template';    -- so that all files are placed again, and their directories counted
