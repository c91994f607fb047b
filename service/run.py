"""From the command line to listening processes, and to their end."""

from __future__ import annotations

import logging
import os
import signal
import socket
from functools import partial
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..config import ServeSection
from ..errors import ConfigError, MissingExtraError
from ..loaders.feedback import FeedbackLog
from .settings import Serving

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

LOG = logging.getLogger(__name__)


def serve(
    folder: Path,
    limits: ServeSection,
    *,
    host: str,
    port: int,
    workers: int = 1,
    keys: Path | None = None,
    keyed: bool = True,
) -> None:
    """Serve a build folder until SIGTERM or Ctrl-C; requests under way are answered first.

    Raises:
        MissingExtraError: the extra `serve` is not installed.
        ConfigError: no keys, no keys where others could reach us, or an address that cannot be had.
        ArtifactError: nothing is published, or it cannot be served.
        DataError: events cannot be kept in the build folder.
    """
    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"serving needs {', '.join(missing)}: pip install 'catalograph[serve]'")
    if not keyed and not _is_loopback(host):
        raise ConfigError(f"--without-keys serves this machine alone, and {host} can be reached by others; give --keys")
    import uvicorn  # noqa: PLC0415

    from .shelf import Shelf  # noqa: PLC0415
    from .telemetry import LOGGING  # noqa: PLC0415

    serving = Serving(folder, limits, keyed, keys)
    serving.load_keys()
    Shelf(folder)  # what the caller can fix is told here in one line, not in the log of a worker
    FeedbackLog(folder).close()
    config = uvicorn.Config(
        partial(_application, serving),
        factory=True,
        workers=workers,
        log_config=LOGGING,
        access_log=False,  # ours masks ids
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=limits.drain_s,
        timeout_worker_healthcheck=30,  # s; a worker that starts on a busy machine is not dead after uvicorn's 5
    )
    with _listening(host, port) as listening:
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        LOG.info("listening", extra={"told": {"url": url}})
        _run(config, listening)


def _application(serving: Serving) -> FastAPI:
    logging.captureWarnings(True)  # a worker is a fresh process; what libraries warn of belongs into the log
    from .app import create_app  # noqa: PLC0415

    return create_app(serving)


def _run(config: uvicorn.Config, listening: socket.socket) -> None:
    import uvicorn  # noqa: PLC0415
    from uvicorn.config import STARTUP_FAILURE  # noqa: PLC0415

    from .supervisor import Supervisor  # noqa: PLC0415
    from .telemetry import SHARED  # noqa: PLC0415

    if config.workers > 1:
        with TemporaryDirectory(prefix="catalograph-") as figures:
            os.environ[SHARED] = figures  # read by the workers, which are fresh processes
            parent = Supervisor(config, [listening])
            parent.run()
        if any(process.exitcode == STARTUP_FAILURE for process in parent.processes):
            raise RuntimeError("a worker did not start; the log says why")
        return
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, lambda *_: None)  # uvicorn raises it again once all is answered; then we end with 0
    uvicorn.Server(config).run([listening])


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except (OSError, OverflowError) as e:
        raise ConfigError(f"cannot listen on {host} port {port} ({e}); choose another by --host and --port") from None
