"""The parent of several workers."""

from __future__ import annotations

from uvicorn.supervisors import Multiprocess

from . import telemetry


class Supervisor(Multiprocess):
    """uvicorn's, which starts a worker anew when one is gone; the figures forget the one that could not say so."""

    def keep_subprocess_alive(self) -> None:
        """Look after the workers; called twice a second."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            if pid is not None:
                telemetry.gone(pid)
