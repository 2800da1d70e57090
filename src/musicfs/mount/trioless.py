"""Loads pyfuse3 without trio: to be imported before it.

pyfuse3 imports trio, and under asyncio never uses it (`fuse_loop.py`): a tenth of the time to a mount, and 5 MB.
"""

import sys
from types import ModuleType

if "trio" in sys.modules:
    import pyfuse3.asyncio
else:
    sys.modules["trio"] = ModuleType("trio")
    try:
        import pyfuse3.asyncio  # noqa: F401
    finally:
        del sys.modules["trio"]
