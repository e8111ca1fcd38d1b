"""A PostgreSQL for the tests: the one of OUTCROP_TEST_POSTGRESQL, or one of our own where its programs are found.

Our own listens on a socket in its directory alone and is gone afterwards; a given one gets schemas of random names,
dropped at the end, and nothing else of it is touched.
"""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL, create_engine, make_url

GIVEN = "OUTCROP_TEST_POSTGRESQL"
DRIVER = "postgresql+psycopg"
SECONDS = 100
"""Until a program that does not end is given up: the machine may be busy, and a test's own patience is longer."""


class Absent(Exception):
    """There is no PostgreSQL here; the message says what would bring one."""


def programs() -> Path:
    """Folder of initdb and pg_ctl; raises Absent."""
    found = shutil.which("pg_ctl")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # Debian keeps them off the PATH
    for place in places:
        if (place / "initdb").exists() and (place / "pg_ctl").exists():
            return place
    raise Absent(f"no PostgreSQL here: install one (Debian: postgresql), or give the URL of one as {GIVEN}")


@contextmanager
def server() -> Iterator[URL]:
    """The URL of a PostgreSQL that answers; raises Absent where there is none and none can be started."""
    if given := os.environ.get(GIVEN):
        yield make_url(given)
        return
    place, who = programs(), _user()
    # A socket's path may have a hundred characters: pytest's own folders have more.
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        data = Path(folder) / "data"
        if who is not None:
            os.chown(folder, who.pw_uid, who.pw_gid)
        _run(who, [place / "initdb", "-D", data, "-U", "outcrop", "--auth=trust", "--no-sync", "-E", "UTF8"])
        # Nothing of it outlives the tests, so nothing needs to reach the disk.
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        log = Path(folder) / "log.txt"
        _run(who, [place / "pg_ctl", "-D", data, "-l", log, "-w", "-t", str(SECONDS), "-o", options, "start"])
        try:
            yield URL.create(DRIVER, username="outcrop", database="postgres", query={"host": folder})
        finally:
            with suppress(Absent):  # it was asked to end: what it does then is no test's matter
                _run(who, [place / "pg_ctl", "-D", data, "-m", "immediate", "-w", "-t", str(SECONDS), "stop"])


@contextmanager
def schema(server: URL) -> Iterator[str]:
    """The URL of an empty schema, dropped at the end."""
    name = f"outcrop_test_{secrets.token_hex(6)}"
    engine = create_engine(server)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
        try:
            inside = server.update_query_dict({"options": f"-csearch_path={name} -capplication_name={name}"})
            yield inside.render_as_string(hide_password=False)
        finally:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    finally:
        engine.dispose()


def cut(schema: str) -> None:
    """End every connection over a schema of `schema()`, as a restart does, and wait until they are gone."""
    url = make_url(schema)
    name = str(url.query["options"]).rpartition("=")[2]
    engine = create_engine(url.difference_update_query(["options"]))
    end = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
    left = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)"
    deadline = time.monotonic() + SECONDS
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            ended = [row.pid for row in connection.exec_driver_sql(end, (name,))]
            assert ended, f"nobody is connected as {name}"
            while connection.exec_driver_sql(left, (ended,)).scalar_one():
                assert time.monotonic() < deadline
                time.sleep(0.02)
    finally:
        engine.dispose()


def _user() -> pwd.struct_passwd | None:
    """Whose process the server shall be; None: ours. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise Absent("PostgreSQL does not run as root, and there is no user `postgres`") from None


def _run(who: pwd.struct_passwd | None, command: list[str | Path]) -> None:
    # To a file: the server that pg_ctl leaves behind would keep a pipe open.
    with tempfile.TemporaryFile() as said:
        try:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                user=who.pw_uid if who else None,
                group=who.pw_gid if who else None,
                extra_groups=[] if who else None,
                cwd="/",
                check=False,
                timeout=SECONDS + 20,
            ).returncode
        except subprocess.TimeoutExpired as fault:
            raise Absent(f"PostgreSQL's programs do not end here: {fault}") from None
        said.seek(0)
        if code:
            tail = said.read().decode(errors="replace").strip()[-500:]
            raise Absent(f"PostgreSQL's {Path(command[0]).name} ended with status {code}: {tail}")
