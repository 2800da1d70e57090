"""Starts the library worker. The parse processes import no module of this name again, as they would another."""

import gc

gc.disable()  # Loading modules makes no garbage, and looking for it takes a tenth of the loading time.

from musicfs.library.worker import main  # noqa: E402 (without looking for garbage)

gc.freeze()  # What is loaded is never garbage either.
gc.enable()
main()
