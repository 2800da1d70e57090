"""The tree's layout: what a template makes of tags, and what it says when it can't."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from musicfs.tags.discs import album_folder, disc_from_folder
from musicfs.tags.tags import Tags
from musicfs.tags.templates import (
    FIELDS,
    Album,
    Template,
    TemplateError,
    track_fields,
)

DEFAULT = "$albumartist/$album ($year) [$format_upper]/$track - $title.$format"


def fields(**given: str | None) -> dict[str, str | None]:
    return {"format": "flac", "format_upper": "FLAC", "filename": "own name.flac", **given}


def render(template: str, **given: str | None) -> str:
    return "/".join(Template.parse(template).render(fields(**given)))


def of(tags: Tags, path: str = "a/b/c.flac", *, disc_prefix: bool = False) -> dict[str, str | None]:
    return track_fields(tags, path, Album(), disc_prefix=disc_prefix)


def test_the_default_template_renders_a_well_tagged_track() -> None:
    tags = Tags("flac", "flac", title="Airbag", artist="Radiohead", album="OK Computer", year=1997, track=1)
    rendered = Template.parse(DEFAULT).render(of(tags))
    assert rendered == ("Radiohead", "OK Computer (1997) [FLAC]", "01 - Airbag.flac")


@pytest.mark.parametrize(
    ("template", "given", "expected"),
    [
        ("$album ($year)/$title", {"album": "A", "title": "T"}, "A/T"),
        ("$album ($year) [$codec]/$title", {"album": "A", "title": "T", "codec": "c"}, "A [c]/T"),
        ("$album [$codec $bit_depth]/$title", {"album": "A", "title": "T", "codec": "c"}, "A [c]/T"),
        ("$album [$bit_depth, $codec]/$title", {"album": "A", "title": "T", "codec": "c"}, "A [c]/T"),
        ("($year) $title", {"title": "T"}, "T"),
        ("$title ([$year])", {"title": "T"}, "T"),
        ("$title ([$year] $genre)", {"title": "T", "genre": "G"}, "T (G)"),
        ("$title {live}", {"title": "T"}, "T {live}"),
        ("$track - $title.$format", {"title": "T"}, "T.flac"),
        ("$track - $title.$format", {"track": "01"}, "01.flac"),
        ("$track - $title.$format", {}, "own name.flac"),
        ("$track. $artist - $title", {"track": "01", "title": "T"}, "01 - T"),
        ("$artist - $album - $title", {"artist": "A", "title": "T"}, "A - T"),
        ("$artist - $album - $title", {"title": "T"}, "T"),
        ("$artist - $title - $album", {"title": "T"}, "T"),
        ("$track - [$genre] $title", {"track": "01", "title": "T"}, "01 - T"),
        ("$track - $genre$title", {"track": "01", "title": "T"}, "01 - T"),
        ("$genre/$title", {"title": "T"}, "Unknown Genre/T"),
        ("[$year]/$title", {"title": "T"}, "Unknown Year/T"),
        ("$$5/${disc}x$title", {"disc": "2", "title": "T"}, "$5/2xT"),
        ("$artist/$title.$format", {"artist": "AC/DC", "title": "T.N.T."}, "AC-DC/T.N.T.flac"),
        ("Music/$path", {"path": "x/y: z/01.flac"}, "Music/x/y - z/01.flac"),
        ("$path", {"path": "01.flac"}, "01.flac"),
        ("$folder/$title", {"folder": "x/y", "title": "T"}, "x/y/T"),
        ("$folder/$title", {"folder": "", "title": "T"}, "T"),
        ("$artist/$filename", {"artist": "A", "filename": "x.mp3"}, "A/x.mp3"),
    ],
)
def test_what_is_empty_leaves_no_trace(template: str, given: dict[str, str], expected: str) -> None:
    assert render(template, **given) == expected


def test_a_long_title_gives_way_to_the_extension() -> None:
    name = render("$track - $title.$format", track="01", title="ö" * 300)
    assert name.startswith("01 - ö")
    assert name.endswith("ö.flac")
    assert len(name.encode()) in (254, 255)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("/$title", "column 1"),
        ("../$title", "part 1"),
        ("$artist/./$title", "part 2"),
        ("$artist//$title", "part 2 of the template is empty"),
        ("()/$title", "part 1"),
        ("$artist/", "part 2 of the template is empty"),
        ("$album ($year/$title", "'(' at column 8 is never closed; add ')' before the next '/'"),
        ("$title [$year", "'[' at column 8 is never closed; add ']' before the end"),
        ("$title ($year]", "']' at column 14 closes nothing; close with ')' first"),
        ("$title $year)", "')' at column 13 closes nothing; remove it"),
        ("$titel", "did you mean '$title'?"),
        ("$artist/$Track", "'$Track' at column 9 is unknown; did you mean '$track'?"),
        ("$disc_$title", "write '${disc}_'"),
        ("$format_uper $title", "did you mean '$format_upper'?"),
        ("$xyzzy $title", "known are albumartist"),
        ("${} $title", "unknown"),
        ("cost $ $title", "'$' at column 6 names no field; write '$$'"),
        ("${title", "column 1"),
        ("$artist/$album", "can't tell an album's files apart"),
        ("$path/$title", "make it the last part"),
        ("x $path", "slashes of its own"),
        ("$folder $title", "slashes of its own"),
    ],
)
def test_a_template_that_cannot_work_is_refused_with_the_remedy(template: str, says: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template.parse(template)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_knows_what_it_uses() -> None:
    template = Template.parse("$albumartist/$album [${year}]/$title")
    assert template.uses("year")
    assert not template.uses("disc")


@pytest.mark.parametrize(
    ("tags", "path", "expected"),
    [
        (Tags("flac", "flac"), "x.flac", "Unknown Artist/Unknown Album [FLAC]/x.flac"),
        (Tags("flac", "flac", artist="A"), "Best Of/CD1/x.flac", "A/Best Of [FLAC]/x.flac"),
        (Tags("mp3", "mp3", track=3), "Best Of/03 - Song.mp3", "Unknown Artist/Best Of [MP3]/03 - Song.mp3"),
        (Tags("mp3", "mp3", track=3), "B/1-03. Song.mp3", "Unknown Artist/B [MP3]/03 - Song.mp3"),
        (Tags("mp3", "mp3", track=4), "B/99 Luftballons.mp3", "Unknown Artist/B [MP3]/04 - 99 Luftballons.mp3"),
        (Tags("mp3", "mp3"), "B/03 - Song.mp3", "Unknown Artist/B [MP3]/03 - Song.mp3"),
        (Tags("flac", "flac", track=7, tracktotal=120), "B/x.flac", "Unknown Artist/B [FLAC]/007 - x.flac"),
        (Tags("flac", "flac", albumartist="AA", artist="A", title="T"), "B/x.flac", "AA/B [FLAC]/T.flac"),
    ],
)
def test_the_path_stands_in_for_missing_tags(tags: Tags, path: str, expected: str) -> None:
    assert "/".join(Template.parse(DEFAULT).render(of(tags, path))) == expected


def test_what_the_album_agrees_on_comes_before_the_tracks_own_tags() -> None:
    tags = Tags("flac", "flac", artist="Guest", year=2001)
    known = track_fields(tags, "a/b.flac", Album(artist="Host", year=1999), disc_prefix=False)
    assert (known["albumartist"], known["artist"], known["year"]) == ("Host", "Guest", "1999")


def test_the_disc_prefix_takes_the_disc_from_the_tags_or_the_folder() -> None:
    tagged = Tags("flac", "flac", track=3, disc=1)
    untagged = Tags("flac", "flac", track=3)
    assert of(tagged, disc_prefix=True)["track"] == "1-03"
    assert of(untagged, "Album/CD 2/x.flac", disc_prefix=True)["track"] == "2-03"
    assert of(untagged, "Album/x.flac", disc_prefix=True)["track"] == "03"


def test_the_fields_of_a_track_are_the_fields_of_templates() -> None:
    assert set(of(Tags("flac", "flac"))) == set(FIELDS)


@pytest.mark.parametrize(
    ("path", "disc", "album"),
    [
        ("A/B/CD1/x.flac", 1, "A/B"),
        ("A/B/cd 02/x.flac", 2, "A/B"),
        ("A/B/Disc 2 - Live/x.flac", 2, "A/B"),
        ("A/B/Disk_03/x.flac", 3, "A/B"),
        ("A/B/(Disc 4)/x.flac", 4, "A/B"),
        ("CD1/x.flac", 1, ""),
        ("A/B/Disc One/x.flac", 1, "A/B"),
        ("A/B/Disc IV/x.flac", 4, "A/B"),
        ("A/B/CD Two - Live/x.flac", 2, "A/B"),
        ("A/B/Vinyl 1/x.flac", 1, "A/B"),
        ("A/B/Digital Media 02/x.flac", 2, "A/B"),
        ("A/B/Side B/x.flac", 2, "A/B"),
        ("A/CDV/x.flac", None, "A/CDV"),
        ("A/Side by Side/x.flac", None, "A/Side by Side"),
        ("A/B-Sides/x.flac", None, "A/B-Sides"),
        ("A/Vol. 2/x.flac", None, "A/Vol. 2"),
        ("A/Disco Volante/x.flac", None, "A/Disco Volante"),
        ("A/CD 1969/x.flac", None, "A/CD 1969"),
        ("A/Discovery/x.flac", None, "A/Discovery"),
        ("x.flac", None, ""),
    ],
)
def test_disc_folders_belong_to_the_album_above(path: str, disc: int | None, album: str) -> None:
    assert disc_from_folder(path) == disc
    assert album_folder(path) == album


VALUES = st.dictionaries(st.sampled_from(FIELDS), st.none() | st.text(max_size=30))
TEMPLATES = st.sampled_from(
    [
        DEFAULT,
        "$genre/$folder/$track $title",
        "$path",
        "x/$path",
        "[$genre] ($year)/{$composer}/$disc-$track. ($title)",
        "$filename",
        "$date/$title.$codec",
    ]
)


@given(TEMPLATES, VALUES)
@example("$path", {"path": "../../etc/passwd"})
@example("$filename", {"filename": ".."})
def test_whatever_the_tags_say_the_path_stays_inside_and_well_formed(
    template: str, values: dict[str, str | None]
) -> None:
    parts = Template.parse(template).render(values)
    own = sum((values.get(name) or "").count("/") + 1 for name in ("path", "folder"))
    assert 1 <= len(parts) <= template.count("/") + 1 + own
    for part in parts:
        assert part not in ("", ".", "..")
        assert "/" not in part
        assert len(part.encode()) <= 255


@given(st.text(alphabet="$/()[]{}. -atile", max_size=20) | st.text(max_size=20))
def test_any_text_is_a_template_or_a_template_error(text: str) -> None:
    try:
        template = Template.parse(text)
    except TemplateError:
        return
    assert all(template.render({}))
