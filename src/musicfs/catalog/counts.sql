-- How much there is. The writes themselves keep these sums, so a status costs the same in any library.

CREATE TABLE totals (                       -- one row: sums over the shown nodes; the root counts as a directory
    files       INTEGER NOT NULL,
    directories INTEGER NOT NULL,
    bytes       INTEGER NOT NULL
);
INSERT INTO totals
    SELECT count(content), count(*) - count(content), coalesce(sum(size), 0) FROM nodes WHERE shown = 1;

CREATE TRIGGER node_comes AFTER INSERT ON nodes WHEN new.shown = 1 BEGIN
    UPDATE totals SET files = files + (new.content IS NOT NULL), directories = directories + (new.content IS NULL),
        bytes = bytes + new.size;
END;
CREATE TRIGGER node_goes AFTER DELETE ON nodes WHEN old.shown = 1 BEGIN
    UPDATE totals SET files = files - (old.content IS NOT NULL), directories = directories - (old.content IS NULL),
        bytes = bytes - old.size;
END;
CREATE TRIGGER node_changes AFTER UPDATE OF shown, size ON nodes
WHEN old.shown <> new.shown OR old.size <> new.size BEGIN
    UPDATE totals SET files = files + (new.shown - old.shown) * (new.content IS NOT NULL),
        directories = directories + (new.shown - old.shown) * (new.content IS NULL),
        bytes = bytes + new.shown * new.size - old.shown * old.size;
END;

ALTER TABLE origins ADD COLUMN files INTEGER NOT NULL DEFAULT 0;  -- how many replicas it has, and their size together
ALTER TABLE origins ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE origins SET files = (SELECT count(*) FROM replicas WHERE origin = num),
    bytes = (SELECT coalesce(sum(size), 0) FROM replicas WHERE origin = num);

CREATE TRIGGER replica_comes AFTER INSERT ON replicas BEGIN
    UPDATE origins SET files = files + 1, bytes = bytes + new.size WHERE num = new.origin;
END;
CREATE TRIGGER replica_goes AFTER DELETE ON replicas BEGIN
    UPDATE origins SET files = files - 1, bytes = bytes - old.size WHERE num = old.origin;
END;
CREATE TRIGGER replica_changes AFTER UPDATE OF size ON replicas WHEN old.size <> new.size BEGIN
    UPDATE origins SET bytes = bytes + new.size - old.size WHERE num = new.origin;
END;
