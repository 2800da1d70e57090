-- Trees over the catalogue. A view's folders have inodes of their own, so a folder's number says which view it is in.
CREATE TABLE views (
    num      INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,          -- of its folder in the root; '': it is the root
    root     INTEGER NOT NULL,              -- the inode number of that folder
    template TEXT                           -- how its paths are made; NULL: as `meta` says
);
INSERT INTO views VALUES (1, '', 1, NULL);

-- The bytes of playlists and cue sheets, up to 1 MiB, so that no origin is asked for them later.
CREATE TABLE texts (
    content INTEGER PRIMARY KEY REFERENCES contents (id),
    data    BLOB NOT NULL,
    is_new  INTEGER NOT NULL DEFAULT 1      -- 1: it has not been rendered yet
);
CREATE INDEX texts_new ON texts (content) WHERE is_new = 1;
CREATE TRIGGER texts_end AFTER DELETE ON contents BEGIN
    DELETE FROM texts WHERE content = old.id;
END;

-- Such texts with the tree's names in them. A row never changes: other bytes are another row, with another inode.
CREATE TABLE renderings (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    content INTEGER NOT NULL REFERENCES contents (id),
    parent  INTEGER NOT NULL,               -- the folder that it is made for
    data    BLOB NOT NULL
);
CREATE INDEX renderings_by_content ON renderings (content);
CREATE INDEX renderings_by_parent ON renderings (parent);
CREATE INDEX inodes_by_rendering ON inodes (rendering) WHERE rendering IS NOT NULL;

-- Which contents a text names: when one of them gets another name, the text is rendered again.
CREATE TABLE text_targets (
    target INTEGER NOT NULL,                -- a content; it may have gone, which is a reason to render the text again
    text   INTEGER NOT NULL REFERENCES contents (id),
    PRIMARY KEY (target, text)
) WITHOUT ROWID;
CREATE INDEX text_targets_by_text ON text_targets (text);
CREATE TRIGGER text_targets_end AFTER DELETE ON contents BEGIN
    DELETE FROM text_targets WHERE text = old.id;
END;
