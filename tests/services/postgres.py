"""PostgreSQL with logical decoding, from Debian, for tests: a fresh cluster on a free port.

    database = postgres.start()
    database.sql("create table t (id int primary key)")     # a script, by psql; its output
    database.rows("select * from t")                        # dicts, values as PostgreSQL's JSON has them
    database.kill(); database.restart()                     # kill -9, then the same data and port again
    database.stop()
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

from service import Process, Service, free_ports, quiet

SETTINGS = """listen_addresses = '127.0.0.1'
wal_level = logical
max_wal_senders = 10
max_replication_slots = 10
wal_sender_timeout = 0
shared_buffers = 32MB
fsync = off
"""


def programs():
    """The folder of the newest version there is; Debian keeps it off the PATH."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(re.sub(r"\D", "", path.parent.parent.name) or 0))
    if not found:
        raise RuntimeError("there is no PostgreSQL; run tools/deps test")
    return found[-1].parent


def account():
    """PostgreSQL refuses to run as root."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}


class Postgres(Service):
    gentle = signal.SIGINT  # a fast shutdown: sessions are cut off

    def __init__(self, settings=""):
        self.programs = programs()
        super().__init__(tempfile.gettempdir())  # where that account may go
        self.data = self.folder / "data"
        self.port, = free_ports(1)
        if account():
            shutil.chown(self.folder, "postgres", "postgres")
        subprocess.run([self.programs / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
                       check=True, capture_output=True, stdin=subprocess.DEVNULL, cwd=self.folder, **account())
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(SETTINGS + f"unix_socket_directories = '{self.folder}'\n{settings}")
        self.restart()

    def ready(self):
        return subprocess.run([self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], stdin=subprocess.DEVNULL).returncode == 0

    def restart(self):
        """Starts the server on its data, after `end`, `kill` or at first."""
        assert self.process is None
        self.process = Process([self.programs / "postgres", "-D", self.data, "-p", str(self.port)], self.folder / "postgres.log", self.ready,
                               cwd=self.folder, **account())

    def psql(self, database):
        return [str(self.programs / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database, "-XqAt", "-v", "ON_ERROR_STOP=1"]

    def sql(self, script, database="postgres"):
        done = subprocess.run([*self.psql(database), "-f", "-"], input=script, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"psql: {done.stderr[-2000:]}")
        return done.stdout

    def rows(self, query, database="postgres"):
        return json.loads(self.sql(f"select coalesce(json_agg(t), '[]') from ({query}) t", database))

    def create_database(self, name):
        quiet(*self.psql("postgres"), "-c", f"create database {name}")
        return name


def start(settings=""):
    return Postgres(settings)
