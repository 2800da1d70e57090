-- The tree in two tables: what the kernel knows by number, and the names that lead to it. A file with several names is
-- one inode: one entry of the page cache.

-- What an inode number stands for: a directory (neither column set), a content or a rendering, as long as the catalogue
-- lives. AUTOINCREMENT: a number is never used again. A file's row stays as long as its content does, so a name that goes
-- and comes, or moves, has the number that it had. uid, gid, mode: see ownership.sql.
CREATE TABLE inodes (
    ino       INTEGER PRIMARY KEY AUTOINCREMENT,
    content   INTEGER,
    rendering INTEGER,
    size      INTEGER NOT NULL,
    mtime_ns  INTEGER NOT NULL,
    uid       INTEGER,
    gid       INTEGER,
    mode      INTEGER
);
INSERT INTO inodes SELECT ino, content, NULL, size, mtime_ns, uid, gid, mode FROM nodes;
UPDATE sqlite_sequence SET seq = (SELECT seq FROM sqlite_sequence WHERE name = 'nodes') WHERE name = 'inodes';
CREATE INDEX inodes_by_content ON inodes (content) WHERE content IS NOT NULL;

-- One name in one folder of one view. A track with several contents has a row for each, under one name; at most one is
-- shown. The indexes hold all that a lookup and a listing need of this table.
CREATE TABLE names (
    parent   INTEGER NOT NULL,              -- the folder's inode number; it belongs to one view
    name     TEXT NOT NULL,
    hidden   INTEGER NOT NULL,              -- 0: shown; else it is not, and this is its inode number again
    ino      INTEGER NOT NULL,
    position INTEGER NOT NULL,              -- in the listing of the folder; it stays while the name does
    view     INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (parent, name, hidden)
) WITHOUT ROWID;
INSERT INTO names SELECT parent, name, iif(shown, 0, ino), ino, ino, 1 FROM nodes ORDER BY parent, name;
CREATE UNIQUE INDEX names_by_position ON names (parent, position, ino);
CREATE INDEX names_by_ino ON names (ino);
CREATE INDEX names_hidden ON names (ino) WHERE hidden > 0;
DROP TABLE nodes;                           -- with its triggers, which kept the totals

CREATE TRIGGER name_comes AFTER INSERT ON names WHEN new.hidden = 0 AND new.view = 1 BEGIN
    UPDATE totals SET (files, directories, bytes) = (
        SELECT files + NOT d, directories + d, bytes + size
        FROM (SELECT content IS NULL AND rendering IS NULL AS d, size FROM inodes WHERE ino = new.ino)
    );
END;
CREATE TRIGGER name_goes AFTER DELETE ON names WHEN old.hidden = 0 AND old.view = 1 BEGIN
    UPDATE totals SET (files, directories, bytes) = (
        SELECT files - NOT d, directories - d, bytes - size
        FROM (SELECT content IS NULL AND rendering IS NULL AS d, size FROM inodes WHERE ino = old.ino)
    );
END;
CREATE TRIGGER name_shows AFTER UPDATE OF hidden ON names WHEN old.hidden > 0 AND new.hidden = 0 AND new.view = 1 BEGIN
    UPDATE totals SET files = files + 1, bytes = bytes + (SELECT size FROM inodes WHERE ino = new.ino);
END;
CREATE TRIGGER name_hides AFTER UPDATE OF hidden ON names WHEN old.hidden = 0 AND new.hidden > 0 AND new.view = 1 BEGIN
    UPDATE totals SET files = files - 1, bytes = bytes - (SELECT size FROM inodes WHERE ino = new.ino);
END;
CREATE TRIGGER inode_grows AFTER UPDATE OF size ON inodes WHEN old.size <> new.size BEGIN
    UPDATE totals SET bytes = bytes + (new.size - old.size)
        * (SELECT count(*) FROM names WHERE ino = new.ino AND hidden = 0 AND view = 1);
END;
CREATE TRIGGER inodes_end AFTER DELETE ON contents BEGIN
    DELETE FROM inodes WHERE content = old.id AND NOT EXISTS (SELECT 1 FROM names n WHERE n.ino = inodes.ino);
END;
