"""Music in a folder of this machine."""

from musicfs.origins.local.driver import KIND as KIND
