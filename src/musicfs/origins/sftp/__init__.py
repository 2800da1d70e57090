"""Music on a server that is reached by SSH."""

from musicfs.origins.sftp.driver import KIND as KIND
