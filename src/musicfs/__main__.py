"""`python -m musicfs` is `musicfs`."""

import sys

from musicfs.cli.main import main

sys.exit(main())
