"""Begins the library worker. A module of this name isn't imported anew by the parse processes, as another would be."""

from musicfs.library.worker import main

main()
