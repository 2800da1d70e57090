-- Contents whose tags have changed since the search index took them: see search_index.py. A content may have several rows.
CREATE TABLE search_pending (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    content INTEGER NOT NULL
);
CREATE TRIGGER search_content_comes AFTER INSERT ON contents WHEN new.tags IS NOT NULL BEGIN
    INSERT INTO search_pending (content) VALUES (new.id);
END;
CREATE TRIGGER search_content_changes AFTER UPDATE OF tags ON contents WHEN old.tags IS NOT new.tags BEGIN
    INSERT INTO search_pending (content) VALUES (new.id);
END;
CREATE TRIGGER search_content_goes AFTER DELETE ON contents WHEN old.tags IS NOT NULL BEGIN
    INSERT INTO search_pending (content) VALUES (old.id);
END;
INSERT INTO search_pending (content) SELECT id FROM contents WHERE tags IS NOT NULL;
