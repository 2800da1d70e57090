-- What searches read of the tracks: search.sqlite, which can be made again from the catalogue at any time.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- One content with tags. The columns are those fields of query/fields.py that are numbers.
CREATE TABLE tracks (
    content       INTEGER PRIMARY KEY,
    place         TEXT NOT NULL,            -- the default order: album artist, album, disc and track
    added         REAL,                     -- seconds since the epoch
    year          INTEGER,
    original_year INTEGER,
    track         INTEGER,
    tracktotal    INTEGER,
    disc          INTEGER,
    disctotal     INTEGER,
    bpm           INTEGER,
    length        REAL,                     -- seconds
    bitrate       INTEGER,
    samplerate    INTEGER,
    bitdepth      INTEGER,
    channels      INTEGER,
    comp          INTEGER NOT NULL
);
CREATE INDEX tracks_by_place ON tracks (place);
CREATE INDEX tracks_by_year ON tracks (year);
CREATE INDEX tracks_by_added ON tracks (added);

-- The distinct values of the fields that are text. The id has the field's number above its lowest 26 bits, so that the
-- ids of one field are one range.
CREATE TABLE texts (
    id   INTEGER PRIMARY KEY,
    text TEXT NOT NULL,
    form TEXT NOT NULL                      -- query/folding.py
);
CREATE INDEX texts_by_text ON texts (text);

CREATE TABLE holders (                      -- which tracks have a value
    text    INTEGER NOT NULL,
    content INTEGER NOT NULL,
    PRIMARY KEY (text, content)
) WITHOUT ROWID;
CREATE INDEX holders_by_content ON holders (content);

-- The forms of the values by their runs of three characters. It keeps no text, which `texts` has.
CREATE VIRTUAL TABLE runs USING fts5 (form, content = '', detail = none, tokenize = 'trigram case_sensitive 1');
CREATE VIRTUAL TABLE run_counts USING fts5vocab (runs, row);
