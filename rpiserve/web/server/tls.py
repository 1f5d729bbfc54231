"""TLS with a certificate that is renewed from time to time, as Let's Encrypt has it every few weeks."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from OpenSSL.crypto import FILETYPE_PEM, load_certificate, load_privatekey
from OpenSSL.SSL import Connection
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.logger import Logger
from zope.interface import implementer

from rpiserve.core.safe_file import fingerprint_of, read_file
from rpiserve.errors import StartError

log = Logger()

LOOK_SECONDS: Final = 60.0
"""How often, at most, it is looked whether the files have been replaced."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@implementer(IOpenSSLServerConnectionCreator)
class RenewedCertificate:
    """What connections by TLS are made with. The certificate is read anew when its file is replaced.

    If that fails, for whatever reason, the one from before stays in use, and it is tried again at each look; each error
    is logged once.

    Args:
        certificate: a PEM file with the certificate, and those between it and the root.
        key: a PEM file with its key.
        clock: returns seconds that only grow.

    Raises:
        StartError: the files cannot be read, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path, clock: Callable[[], float]) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self._looked = clock()
        self._told: set[str] = set()
        try:
            self._options, self._seen = self._load()
        except ValueError as error:
            raise StartError(str(error)) from error

    def serverConnectionForTLS(self, protocol: object) -> Any:
        """Return the TLS of a new connection."""
        if self._clock() - self._looked >= LOOK_SECONDS:
            self._look()
        return Connection(self._options.getContext(), None)

    def reload(self) -> None:
        """Read the files now, whether they have been replaced or not, and log what is wrong even if that was told."""
        self._told.clear()
        self._reread()

    def _look(self) -> None:
        try:
            unchanged = [fingerprint_of(os.stat(file)) for file in (self._certificate, self._key)] == self._seen
        except OSError:
            unchanged = False  # what is wrong shows when they are read
        if unchanged:
            self._looked = self._clock()
        else:
            self._reread()

    def _reread(self) -> None:
        self._looked = self._clock()
        try:
            self._options, self._seen = self._load()
        except ValueError as error:
            text = f"{error}; the certificate from before stays in use"
            if text not in self._told:
                self._told.add(text)
                log.error("{text}", text=text)
        else:
            self._told.clear()
            log.info("read the certificate in {file} anew", file=self._certificate)

    def _load(self) -> tuple[CertificateOptions, list[tuple[int, ...]]]:
        try:
            (certificates, status), (key, status_of_key) = read_file(self._certificate), read_file(self._key)
        except OSError as error:
            raise ValueError(f"--tls-cert and --tls-key: cannot read {error.filename}: {error.strerror}") from error
        with _saying(f"--tls-cert: there is no certificate in {self._certificate}, as PEM"):
            own, *chain = (load_certificate(FILETYPE_PEM, each) for each in _CERTIFICATE.findall(certificates))
        with _saying(f"--tls-key: there is no private key in {self._key}, as PEM and without a password"):
            private = load_privatekey(FILETYPE_PEM, key, b"")  # without the last one it would ask for a password
        with _saying(f"--tls-key: {self._key} is not the key of the certificate in {self._certificate}"):
            options = CertificateOptions(privateKey=private, certificate=own, extraCertChain=chain)
            options.getContext()  # which checks that they belong together
        return options, [fingerprint_of(status), fingerprint_of(status_of_key)]


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """Have what goes wrong during the block, for which OpenSSL and Twisted raise one thing or another, told so."""
    try:
        yield
    except Exception as error:
        raise ValueError(what) from error
