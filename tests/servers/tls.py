"""Redis behind TLS: a private authority, the certificates it signs, and which redis-server can use them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.servers.processes import free_port
from tests.servers.redis import RedisServer, binaries


def find_openssl() -> str | None:
    return shutil.which("openssl")


@dataclass(frozen=True)
class Certificate:
    file: str
    key: str


class Authority:
    """A private CA. `certificate` is its own, as clients and servers need it to believe the others."""

    def __init__(self, openssl: str, folder: Path, name: str = "authority") -> None:
        self._openssl = openssl
        self._folder = folder
        self._own = Certificate(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
        self._run("req", "-x509", *_key(self._own), "-out", self._own.file, "-subj", f"/CN={name}")

    @property
    def certificate(self) -> str:
        return self._own.file

    def sign(self, name: str) -> Certificate:
        """A certificate for `name` at 127.0.0.1, for servers and for clients."""
        new = Certificate(str(self._folder / f"{name}.pem"), str(self._folder / f"{name}.key"))
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1\n")
        self._run("req", *_key(new), "-out", str(request), "-subj", f"/CN={name}")
        self._run(
            *("x509", "-req", "-in", str(request), "-out", new.file, "-extfile", str(extensions)),
            *("-CA", self._own.file, "-CAkey", self._own.key, "-CAcreateserial"),
        )
        return new

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._openssl, *arguments], check=True, capture_output=True, timeout=60)


def _key(certificate: Certificate) -> list[str]:
    return ["-newkey", "rsa:2048", "-nodes", "-keyout", certificate.key]


class TLSRedis(RedisServer):
    """A Redis with two doors: `tls_port` for what is being tested, the plain `port` for who looks on."""

    def __init__(self, binary: Path, version: str, authority: Authority, *, clients: str = "no") -> None:
        self.tls_port = free_port()
        own = authority.sign("server")
        super().__init__(
            binary,
            version,
            tls_port=str(self.tls_port),
            tls_cert_file=own.file,
            tls_key_file=own.key,
            tls_ca_cert_file=authority.certificate,
            tls_auth_clients=clients,
        )

    def tls_url(self, database: int = 0, query: str = "") -> str:
        return f"rediss://127.0.0.1:{self.tls_port}/{database}{query}"


@cache
def binary_with_tls(openssl: str) -> tuple[Path, str] | None:
    """The first redis-server here that was built with TLS: each is tried."""
    folder = Path(tempfile.mkdtemp(prefix="expiry-tls-"))
    try:
        authority = Authority(openssl, folder)
        for version, binary in binaries().items():
            server = TLSRedis(binary, version, authority)
            try:
                server.start()
            except AssertionError:  # it ended at its start: it does not know the options
                continue
            else:
                return binary, version
            finally:
                server.remove()
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
