"""A real Neo4j Community server on the loopback, out of published jars, for tests and for trying things out.

    NEO4J_PASSWORD=… python tests/neo4j/server.py            # serves bolt://127.0.0.1:7687 until interrupted
    python tests/neo4j/server.py --version 2025.11.2 --port 7688 --home build/my-graph

The jars (GPLv3) are fetched by Maven into build/neo4j/<version>/lib once. 5.26 runs on Java 17 or 21, 2025.11 on 21 or
25; a fitting one is looked for in JAVA_HOME, on the PATH and under /usr/lib/jvm.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
LTS, LATEST = "5.26.26", "2025.11.2"
START_S = 120
OPENED = ("java.nio", "java.io", "sun.nio.ch", "java.util.concurrent")
HANDSHAKE = bytes.fromhex("6060b017 00040405 00000000 00000000 00000000".replace(" ", ""))  # Bolt 5.0 to 5.4


class Server:
    """One server process with its own data folder.

    home: holds data, logs and configuration; kept when the server stops. password: of user neo4j, set before the first
    start. settings: of neo4j.conf, besides those below.
    """

    def __init__(
        self,
        home: Path,
        password: str,
        *,
        port: int | None = None,
        version: str = LTS,
        heap: str = "1g",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.home, self.password, self.version, self.heap = home.resolve(), password, version, heap
        self.port = port or free_port()
        self.lib = lib_of(version)
        self.settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"bolt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Fetch the jars if they are not there, start, and wait until Bolt answers."""
        install(self.version)
        self._configure()
        if not any((self.home / "data" / place).exists() for place in ("dbms/auth.ini", "databases/system")):
            self.admin("dbms", "set-initial-password", self.password)
        arguments = [f"--home-dir={self.home}", f"--config-dir={self.home / 'conf'}", "--console-mode"]
        with (self.home / "logs" / "console.log").open("ab") as log:
            self._process = subprocess.Popen([*self._java(self._entry_point()), *arguments], stdout=log, stderr=log)
        end = time.monotonic() + START_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("Neo4j did not start:\n" + (self.home / "logs" / "console.log").read_text()[-2_000:])
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether a Bolt handshake succeeds."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(HANDSHAKE)
                return connection.recv(4) not in (b"", bytes(4))
        except OSError:
            return False

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """From here on it keeps its connections and says nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End a pause."""
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(which)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def admin(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run neo4j-admin on the stopped server's data, in some folder; its output."""
        self._configure()
        command = [*self._java("org.neo4j.server.startup.Neo4jAdminCommand"), *arguments]
        done = subprocess.run(command, cwd=cwd, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"neo4j-admin {' '.join(arguments[:2])} failed: {(done.stdout + done.stderr)[-2_000:]}")
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """What neo4j-admin reads its folders from."""
        return {**os.environ, "NEO4J_HOME": str(self.home), "NEO4J_CONF": str(self.home / "conf")}

    def _java(self, main: str) -> list[str]:
        flags = [f"-Xmx{self.heap}", "-XX:+UseG1GC", "-Dfile.encoding=UTF-8", "-Dlog4j2.disable.jmx=true"]
        flags += [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
        flags += ["--enable-native-access=ALL-UNNAMED", f"-Dbasedir={self.home}"]
        return [str(find_java(self.version)), *flags, "-cp", f"{self.home / 'conf'}:{self.lib}/*", main]

    def _entry_point(self) -> str:
        """Its name changed between the lines; the jar knows."""
        with zipfile.ZipFile(self.lib / f"neo4j-{self.version}.jar") as jar:
            names = jar.namelist()
        kinds = ("Neo4jCommunity", "CommunityEntryPoint")
        found = next(kind for kind in kinds if f"org/neo4j/server/{kind}.class" in names)
        return f"org.neo4j.server.{found}"

    def _configure(self) -> None:
        for folder in ("conf", "data", "logs", "run", "plugins", "import"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        settings = {
            "server.default_listen_address": "127.0.0.1",
            "server.bolt.listen_address": f"127.0.0.1:{self.port}",
            "server.bolt.advertised_address": f"127.0.0.1:{self.port}",
            "server.http.enabled": "false",
            "server.https.enabled": "false",
            "server.directories.lib": str(self.lib),
            "server.memory.heap.max_size": self.heap,
            "server.memory.pagecache.size": "512m",
            "db.memory.transaction.max": "512m",
            "db.transaction.timeout": "120s",
            "dbms.security.allow_csv_import_from_file_urls": "false",
            "dbms.usage_report.enabled": "false",
        }
        if not self.version.startswith("5."):
            settings["db.query.default_language"] = "CYPHER_5"  # 5.26 does not know the setting
        opened = [("server.jvm.additional", f"--add-opens=java.base/{package}=ALL-UNNAMED") for package in OPENED]
        text = "".join(f"{key}={value}\n" for key, value in [*(settings | self.settings).items(), *opened])
        (self.home / "conf" / "neo4j.conf").write_text(text, encoding="utf-8")


def lib_of(version: str) -> Path:
    """Where the jars of a version lie."""
    return ROOT / "build" / "neo4j" / version / "lib"


def install(version: str) -> None:
    """Fetch the jars of a version once; they appear whole or not at all."""
    lib = lib_of(version)
    if lib.is_dir():
        return
    part = lib.with_name(f"lib.{os.getpid()}.part")
    command = ["mvn", "-B", "-q", "-f", str(HERE / "pom.xml"), f"-Dversion.neo4j={version}", f"-Dlib={part}", "package"]
    subprocess.run(command, check=True)
    try:
        os.replace(part, lib)
    except OSError:  # somebody else was faster
        shutil.rmtree(part)


def missing(version: str = LTS) -> str | None:
    """What this machine lacks to run a server, or None."""
    if shutil.which("mvn") is None and not lib_of(version).is_dir():
        return "Maven (mvn) is not installed"
    return None if find_java(version) else f"no Java {' or '.join(map(str, javas(version)))} found"


def javas(version: str) -> tuple[int, ...]:
    """The Java releases a server version runs on."""
    return (17, 21) if version.startswith("5.") else (21, 25)


def find_java(version: str) -> Path | None:
    """A java binary of a fitting release."""
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    found = [home / "bin" / "java" for home in (*homes, *sorted(Path("/usr/lib/jvm").glob("*")))]
    on_path = shutil.which("java")
    return next(
        (java for java in [*map(Path, [on_path] if on_path else []), *found] if _release(java) in javas(version)), None
    )


def _release(java: Path) -> int | None:
    if not java.is_file():
        return None
    said = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=False).stderr
    number = re.search(r'version "(\d+)', said)
    return int(number.group(1)) if number else None


def free_port() -> int:
    """A port of the loopback nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A Neo4j Community server on the loopback.")
    parser.add_argument("--version", default=LTS, help=f"{LTS} (the default), {LATEST} …")
    parser.add_argument("--port", type=int, default=7687)
    parser.add_argument("--home", type=Path, default=ROOT / "build" / "neo4j" / "home")
    asked = parser.parse_args()
    password = os.environ.get("NEO4J_PASSWORD", "")
    if len(password) < 8:
        parser.error("set NEO4J_PASSWORD (8 characters or more) for user neo4j")
    lacking = missing(asked.version)
    if lacking:
        parser.error(lacking)
    server = Server(asked.home, password, port=asked.port, version=asked.version)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server.start()
    print(f"Neo4j {asked.version} on {server.url}, data in {server.home}; stop it with Ctrl-C", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
