"""Takes away from a process what it does not need, for good: a process that reads what strangers made.

All calls are of the process that confines itself. The limits hold against an attacker who runs code in it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
from functools import cache

_PR_SET_NO_NEW_PRIVS = 38
_CREATE_RULESET = 444
_RESTRICT_SELF = 446
_VERSION = 1
# The number of rights that the kernel knows, by the version of its interface.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_RIGHTS = 0b11
_SCOPES = 0b11


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def forbid_privileges() -> None:
    """Makes the kernel ignore set-user-ID bits for this process and its children."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def forbid_files_and_tcp() -> int:
    """Forbids to open, run, make or remove any file, to use TCP, and to signal other processes, by Landlock.

    What is open stays open. Older kernels know fewer of the rights: TCP since 6.7, signals since 6.12.

    Returns:
        The version of the kernel's interface; 0: it has no Landlock (before 5.13), or that is switched off.

    Raises:
        OSError: The kernel has it and refuses.
    """
    call = ctypes.CDLL(None, use_errno=True).syscall
    version = call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    if version < 1:
        return 0
    files = (1 << _FILE_RIGHTS.get(version, max(_FILE_RIGHTS.values()))) - 1
    rules = _Ruleset(files, _TCP_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    fd = call(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(ctypes.sizeof(rules)), ctypes.c_uint32(0))
    if fd < 0:
        raise _failed()
    try:
        if call(_RESTRICT_SELF, ctypes.c_int(fd), ctypes.c_uint32(0)) != 0:
            raise _failed()
    finally:
        os.close(fd)
    return int(version)


def _failed() -> OSError:
    number = ctypes.get_errno() or errno.EPERM
    return OSError(number, f"Landlock: {os.strerror(number)}")


def forbid_resources(descriptors: int) -> None:
    """Forbids to make processes (which does not bind root), to write to files, to leave a core file, and to have more
    than `descriptors` open."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


class MemoryLimit:
    """The limit of this process's address space, which follows what the process has.

    Args:
        statm: The open /proc/self/statm.
        most: Bytes that the process may have beyond what it has now, whatever `allow` says.
    """

    def __init__(self, statm: int, most: int) -> None:
        self._statm = statm
        self._at_start = self._used()
        self._most = self._at_start + most

    @classmethod
    def begin(cls, most: int) -> MemoryLimit:
        """Limits the process for good. Call it before `forbid_files_and_tcp`, since it opens a file of /proc."""
        limit = cls(os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC), most)
        limit.allow(most)
        return limit

    def allow(self, more: int) -> None:
        """Allows the process so many bytes beyond what it has now."""
        resource.setrlimit(resource.RLIMIT_AS, (min(self._used() + more, self._most), self._most))

    @property
    def grown(self) -> int:
        """How many bytes the process has beyond what it had at the start."""
        return self._used() - self._at_start

    def _used(self) -> int:
        return int(os.pread(self._statm, 64, 0).split(maxsplit=1)[0]) * _page_size()


@cache
def _page_size() -> int:
    return resource.getpagesize()


def limit_cpu(secs: float) -> None:
    """Ends this process by SIGPROF when it has used so many seconds of processor time from now on; 0: no longer.

    RLIMIT_CPU counts whole seconds of the process's life, so it is no limit of one piece of work.
    """
    signal.setitimer(signal.ITIMER_PROF, secs)
