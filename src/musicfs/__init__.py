"""One read-only music folder, organised by tags, over music that lives in several places."""

__version__ = "0.1.0"
