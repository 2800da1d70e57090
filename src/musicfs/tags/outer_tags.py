"""The tags around a stream: ID3v2, APEv2 and ID3v1, before the audio and behind it, which may contradict each other."""

from __future__ import annotations

from musicfs.tags import skeletons
from musicfs.tags.containers import trailing_tags
from musicfs.tags.fields import Values, id3_values, id3v1_values, merged, named
from musicfs.tags.sources import TagSource


def outer_values(source: TagSource, *, ape_first: bool = False) -> Values:
    """Field by field the value of the richest tag that has one: ID3v2, then APEv2, then ID3v1.

    ID3v1 cuts its values, and often nothing else is left of a tag that was written long before the others.

    Args:
        source: The file.
        ape_first: APEv2 is the format's own tag, and ID3v2 a foreign one.
    """
    id3: list[Values] = [id3_values(each) for each in source.id3]
    ape: list[Values] = []
    old: list[Values] = []
    for tag in trailing_tags(source.file):
        if tag.name == b"3DI":
            id3.append(id3_values(skeletons.id3(source.file, tag.start)))
        elif tag.name == b"APETAGEX":
            ape.append(named(skeletons.ape_items(source.file, tag.items, tag.stop - 32), "APEv2"))
        elif tag.name == b"TAG":
            old.append(id3v1_values(source.file.read_at(tag.start, 128)))
    if not (id3 or ape or old):
        return source.ape
    if source.ape:
        ape.append(source.ape)
    return merged(*ape, *id3, *old) if ape_first else merged(*id3, *ape, *old)
