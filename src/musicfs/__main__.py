"""`python -m musicfs` is `musicfs`. Only `python -P -m musicfs` is as safe in a folder of strangers' files."""

import sys

from musicfs.system.processes import leave_script_folder

leave_script_folder()

from musicfs.cli.entry import main  # noqa: E402 (not from the working folder)

sys.exit(main())
