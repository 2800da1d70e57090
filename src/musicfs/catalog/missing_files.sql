-- Which texts name files that are not there: when a file of such a name comes, the text is rendered again.
CREATE TABLE missing_files (
    stem TEXT NOT NULL,                     -- of its name: see references.stem
    text INTEGER NOT NULL REFERENCES contents (id),
    PRIMARY KEY (stem, text)
) WITHOUT ROWID;
CREATE INDEX missing_files_by_text ON missing_files (text);
CREATE TRIGGER missing_files_end AFTER DELETE ON contents BEGIN
    DELETE FROM missing_files WHERE text = old.id;
END;
UPDATE texts SET is_new = 1;                -- so that each is rendered once more, and tells what it misses
