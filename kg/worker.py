"""An analyst's query in a process of its own: the engine's timeout does not stop memory from growing, a kill does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import psutil
import pyarrow as pa

from ..errors import CatalographError, QueryError
from .engine import execute, opened
from .store import Parameters

MEMORY_BYTES = 3 << 30  # resident; the engine's buffers are 1 GiB of it
GRACE_S = 5.0  # to start Python and open the file
REFUSED = 2  # exit code: the reason stands on stderr


def ask(path: Path, text: str, parameters: Parameters, *, timeout_s: float, max_rows: int) -> pa.Table:
    """Run checked text on a file opened read-only.

    Raises:
        QueryError: it does not run, takes too long or too much memory, or answers more than `max_rows`.
    """
    job = json.dumps([str(path), text, dict(parameters), timeout_s, max_rows])
    with TemporaryFile() as job_file, TemporaryFile() as answer, TemporaryFile() as complaint:
        job_file.write(job.encode())
        job_file.seek(0)
        # -P: a file of the folder we happen to stand in must not be imported.
        command = [sys.executable, "-P", "-W", "ignore", "-m", __name__]
        with subprocess.Popen(command, stdin=job_file, stdout=answer, stderr=complaint) as process:
            try:
                _watch(process, timeout_s + GRACE_S)
            finally:
                process.kill()
        answer.seek(0)
        complaint.seek(0)
        if process.returncode:
            raise QueryError(_reason(process.returncode, complaint.read().decode(errors="replace")))
        return pa.ipc.open_stream(answer).read_all()


def _watch(process: subprocess.Popen[bytes], seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            process.wait(0.05)
            return
        except subprocess.TimeoutExpired:
            if time.monotonic() > end:
                raise QueryError("the query took too long and was stopped; narrow it") from None
        try:
            used = psutil.Process(process.pid).memory_info().rss
        except psutil.NoSuchProcess:
            continue
        if used > MEMORY_BYTES:
            raise QueryError("the query took too much memory and was stopped; narrow it or add LIMIT")


def _reason(code: int, complaint: str) -> str:
    lines = complaint.strip().splitlines()
    if code == REFUSED and lines:
        return lines[-1]
    return f"the query ended its process (code {code}); narrow it"


def _main() -> int:
    path, text, parameters, timeout_s, max_rows = json.load(sys.stdin)
    try:
        database: Any = opened(Path(path), read_only=True)
        table = execute(database, text, parameters, timeout_s=timeout_s, max_rows=max_rows)
    except CatalographError as e:
        print(e, file=sys.stderr)
        return REFUSED
    with pa.ipc.new_stream(sys.stdout.buffer, table.schema) as stream:
        stream.write_table(table)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
