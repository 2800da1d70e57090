"""The configuration: models, loading, sources, editing, kinds of origin, secrets.

Inside MusicFS, import from the modules. The names here are those that documents for plugins have named.
"""

from musicfs.config.models import Config as Config
from musicfs.config.models import OriginConfig as OriginConfig
