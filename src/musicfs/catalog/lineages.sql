-- Whose track a content is, whatever becomes of its files: see lineages.py.
CREATE TABLE lineages (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    first_seen REAL NOT NULL                -- when a scan first found it, seconds since the epoch
);
ALTER TABLE contents ADD COLUMN lineage INTEGER;           -- NULL: no music
ALTER TABLE contents ADD COLUMN parser INTEGER NOT NULL DEFAULT 1;  -- the version of the parser that made `tags`
ALTER TABLE contents ADD COLUMN parsed TEXT;               -- what it said, where a correction made `tags` differ
INSERT INTO lineages
    SELECT content, min(CAST(strftime('%s', 'now') AS REAL), min(mtime_ns) / 1e9) FROM replicas WHERE role = 'audio'
    GROUP BY content;
UPDATE contents SET lineage = id WHERE id IN (SELECT id FROM lineages);
CREATE INDEX contents_by_parser ON contents (parser) WHERE lineage IS NOT NULL;
CREATE INDEX contents_by_lineage ON contents (lineage) WHERE lineage IS NOT NULL;

-- Contents whose last replica has gone: a file that comes back is the same track.
CREATE TABLE departed (
    fingerprint BLOB PRIMARY KEY,
    lineage     INTEGER NOT NULL REFERENCES lineages (id),
    left_at     REAL NOT NULL               -- seconds since the epoch
) WITHOUT ROWID;
CREATE INDEX departed_by_time ON departed (left_at);
CREATE INDEX departed_by_lineage ON departed (lineage);
CREATE TRIGGER content_departs AFTER DELETE ON contents WHEN old.lineage IS NOT NULL BEGIN
    INSERT OR REPLACE INTO departed
        VALUES (old.fingerprint, old.lineage, (julianday('now') - 2440587.5) * 86400.0);
END;
CREATE TRIGGER departed_end AFTER DELETE ON departed BEGIN
    DELETE FROM lineages WHERE id = old.lineage AND NOT EXISTS (SELECT 1 FROM contents WHERE lineage = old.lineage)
        AND NOT EXISTS (SELECT 1 FROM departed WHERE lineage = old.lineage);
END;

-- Tags as the user wants them. A field of a lineage has one row for each of its values.
CREATE TABLE corrections (
    lineage  INTEGER NOT NULL REFERENCES lineages (id),
    field    TEXT NOT NULL,
    position INTEGER NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (lineage, field, position)
) WITHOUT ROWID;

CREATE TRIGGER corrections_end AFTER DELETE ON lineages BEGIN
    DELETE FROM corrections WHERE lineage = old.id;
END;

-- Fields with several values: artist, album artist, genre, composer. Those with one are columns of `contents`.
CREATE TABLE tag_values (
    content  INTEGER NOT NULL REFERENCES contents (id),
    field    TEXT NOT NULL,
    position INTEGER NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (content, field, position)
) WITHOUT ROWID;
CREATE INDEX tag_values_by_value ON tag_values (field, value);
CREATE TRIGGER tag_values_end AFTER DELETE ON contents BEGIN
    DELETE FROM tag_values WHERE content = old.id;
END;
ALTER TABLE contents ADD COLUMN title TEXT AS (json_extract(tags, '$.title'));
ALTER TABLE contents ADD COLUMN album TEXT AS (json_extract(tags, '$.album'));
ALTER TABLE contents ADD COLUMN year INTEGER AS (json_extract(tags, '$.year'));
ALTER TABLE contents ADD COLUMN track INTEGER AS (json_extract(tags, '$.track'));
ALTER TABLE contents ADD COLUMN disc INTEGER AS (json_extract(tags, '$.disc'));
ALTER TABLE contents ADD COLUMN format TEXT AS (json_extract(tags, '$.format'));
ALTER TABLE contents ADD COLUMN duration_s REAL AS (json_extract(tags, '$.duration_s'));
