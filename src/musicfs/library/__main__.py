"""Starts the library worker. The parse processes import no module of this name again, as they would another."""

from musicfs.library.worker import main

main()
