"""Azurite, Microsoft's emulator of Azure Blob storage, from the npm registry.

    azure = azurite.start()
    azure.endpoint                 # "http://127.0.0.1:41234/devstoreaccount1"
    azure.environment()            # what weir and delta-rs read
    azure.create_container("lake")
    azure.stop()
"""

import base64
import hashlib
import hmac
import shutil
import urllib.error
import urllib.request
from email.utils import formatdate

from service import HOME, Process, Service, free_ports, listening, locked, quiet

VERSION = "3.35.0"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # public, the emulator's own


def install():
    home = HOME / "azurite"
    with locked(home):
        if not (home / f"installed-{VERSION}").exists():
            if shutil.which("npm") is None:
                raise RuntimeError("azurite needs Node.js; run tools/deps test")
            (home / "package.json").write_text('{"private":true}')
            quiet("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"azurite@{VERSION}", cwd=home)
            (home / f"installed-{VERSION}").touch()
    return home


class Azurite(Service):
    def __init__(self, home, arguments=()):
        super().__init__(home)
        self.port, = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{self.port}/{ACCOUNT}"
        self.process = Process(
            ["node", str(home / "node_modules/azurite/dist/src/blob/main.js"), "--blobHost", "127.0.0.1", "--blobPort", str(self.port),
             "--location", str(self.folder), "--disableTelemetry", "--skipApiVersionCheck", *arguments],
            self.folder / "azurite.log", lambda: listening(self.port))

    def environment(self):
        return {"AZURE_STORAGE_ENDPOINT": self.endpoint, "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY}

    def delta(self):
        """storage_options of the deltalake package."""
        return {"account_name": ACCOUNT, "account_key": KEY, "azure_storage_endpoint": self.endpoint, "allow_http": "true"}

    def create_container(self, name):
        date = formatdate(usegmt=True)
        text = (f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2021-12-02\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container")
        signature = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
        request = urllib.request.Request(f"{self.endpoint}/{name}?restype=container", method="PUT", headers={
            "x-ms-date": date, "x-ms-version": "2021-12-02", "Authorization": f"SharedKey {ACCOUNT}:{signature}"})
        urllib.request.urlopen(request, timeout=30).close()
        return name


def start(arguments=()):
    return Azurite(install(), arguments)
