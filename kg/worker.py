"""An analyst's query in a process of its own: no timeout of an engine keeps memory from growing, a kill does.

The embedded engine fills the process it runs in; of a server it is the answer, one value of which may be larger than
the memory here.
"""

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

MEMORY_BYTES = 3 << 30  # resident; the embedded engine's buffers are 1 GiB of it
ANSWER_BYTES = 64 << 20  # somebody is going to read it
GRACE_S = 5.0  # to start Python, and to open the file or reach the server
REFUSED = 2  # exit code: the reason stands on stderr


def ask(url: str, text: str, parameters: Parameters, *, timeout_s: float, max_rows: int) -> pa.Table:
    """Run checked text on a store, opened read-only: `ladybug:PATH`, or the address of a server.

    Raises:
        QueryError: it does not run, takes too long or too much memory, or answers more than `max_rows` or ANSWER_BYTES.
    """
    job = json.dumps([url, text, dict(parameters), timeout_s, max_rows])
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


def _answer(url: str, text: str, parameters: Parameters, timeout_s: float, max_rows: int) -> pa.Table:
    scheme, _, place = url.partition(":")
    if scheme == "ladybug":
        database: Any = opened(Path(place), read_only=True)
        return execute(database, text, parameters, timeout_s=timeout_s, max_rows=max_rows)
    from .bolt import Bolt  # noqa: PLC0415
    from .neo4j_answer import answer  # noqa: PLC0415

    return answer(Bolt(url), text, parameters, timeout_s=timeout_s, max_rows=max_rows)


def _main() -> int:
    try:
        table = _answer(*json.load(sys.stdin))
        if table.nbytes > ANSWER_BYTES:
            shown = f"{table.nbytes >> 20:,} MiB, at most {ANSWER_BYTES >> 20} MiB are shown"
            raise QueryError(f"the query answers {shown}; narrow it or add LIMIT")
    except CatalographError as e:
        print(e, file=sys.stderr)
        return REFUSED
    with pa.ipc.new_stream(sys.stdout.buffer, table.schema) as stream:
        stream.write_table(table)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
