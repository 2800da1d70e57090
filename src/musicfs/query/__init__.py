"""Queries in beets' syntax: their text becomes a tree of conditions, which the catalogue turns into SQL."""
