"""The demo's stage with a NAS that is a mount of its own, and can be taken away from under an open file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from demo.stage import DemoError, Interrupts, Stage

from musicfs.system.mounts import mounts


class NasStage(Stage):
    """`laptop` is a folder, `nas` a mount, by bindfs, of the folder `nas_disk`.

    A plain folder that is renamed or removed would go on serving the files that are open.
    """

    def __init__(self, folder: Path, interrupts: Interrupts) -> None:
        super().__init__(folder, interrupts)
        self.nas, self.laptop, self.nas_disk = folder / "nas", folder / "laptop", folder / ".nas-disk"
        self._nas: subprocess.Popen[bytes] | None = None
        for made in (self.nas, self.laptop, self.nas_disk):
            made.mkdir()

    def end_places(self) -> None:
        self.lose_nas()
        self.clear_nas()

    def bring_nas(self) -> None:
        """Mounts the NAS; returns once its files can be seen."""
        # Without the kernel's cache: a read while the NAS is away must fail, as it does over a network.
        options = ["-f", "--no-allow-other", "-o", "direct_io,fsname=nas"]
        command = ["bindfs", *options, str(self.nas_disk), str(self.nas)]
        with self.uninterrupted():
            self._nas = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
        self.wait_for(lambda: self._nas_is_mounted() or self._nas_has_ended(), "the NAS can't be mounted")

    def _nas_is_mounted(self) -> bool:
        return any(mount.path == self.nas for mount in mounts())

    def _nas_has_ended(self) -> bool:
        assert self._nas is not None
        if self._nas.poll() is None:
            return False
        said = self._nas.stderr.read().decode(errors="replace").strip() if self._nas.stderr else ""
        raise DemoError(f"The NAS can't be mounted: {said or 'bindfs ended'}.")

    def lose_nas(self) -> int | None:
        """Kills the process behind the NAS, and that one only; returns its number."""
        process, self._nas = self._nas, None
        if process is None:
            return None
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()
        return process.pid

    def clear_nas(self) -> None:
        """Removes the dead mount that `lose_nas` left behind."""
        if self._nas_is_mounted():
            root = os.getuid() == 0
            command = ["umount", "--lazy", str(self.nas)] if root else ["fusermount3", "-u", "-z", str(self.nas)]
            subprocess.run(command, check=False, capture_output=True)
