"""TLS with a certificate that is renewed from time to time, as Let's Encrypt has it every few weeks."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from OpenSSL.SSL import Connection
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import Certificate, CertificateOptions, PrivateCertificate
from twisted.logger import Logger
from zope.interface import implementer

from rpiserve.errors import StartError
from rpiserve.stamp import stamp_of

log = Logger()

LOOK_SECONDS: Final = 60.0
"""How often, at most, it is looked whether the files have been replaced."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@implementer(IOpenSSLServerConnectionCreator)
class RenewedCertificate:
    """What connections by TLS are made with. The certificate is read anew when its file is replaced.

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
        self._seen = self._stamps()
        self._looked = clock()
        try:
            self._options = self._load()
        except ValueError as error:
            raise StartError(str(error)) from error

    def serverConnectionForTLS(self, protocol: object) -> Any:
        """Return the TLS of a new connection."""
        if self._clock() - self._looked >= LOOK_SECONDS:
            self.reload()
        return Connection(self._options.getContext(), None)

    def reload(self) -> None:
        """Read the files anew if they have been replaced. One that cannot be used leaves all as it is."""
        self._looked = self._clock()
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self._options = self._load()
        except ValueError as error:
            log.error("{error}; the certificate from before stays in use", error=error)
        else:
            log.info("read the certificate in {file} anew", file=self._certificate)

    def _stamps(self) -> list[object]:
        stamps: list[object] = []
        for file in (self._certificate, self._key):
            try:
                stamps.append(stamp_of(file))
            except OSError:
                stamps.append(None)
        return stamps

    def _load(self) -> CertificateOptions:
        try:
            own, *chain = _CERTIFICATE.findall(self._certificate.read_bytes()) or [b""]
            pair = PrivateCertificate.loadPEM(own + b"\n" + self._key.read_bytes())
            options = CertificateOptions(
                privateKey=pair.privateKey.original,
                certificate=pair.original,
                extraCertChain=[Certificate.loadPEM(each).original for each in chain],
            )
            options.getContext()  # which checks that they belong together
        except OSError as error:
            raise ValueError(f"--tls-cert and --tls-key: cannot read {error.filename}: {error.strerror}") from error
        except Exception as error:  # by what is wrong, OpenSSL and Twisted raise one thing or another
            files = f"{self._certificate} and {self._key}"
            raise ValueError(f"--tls-cert and --tls-key: {files} are no certificate with its key, as PEM") from error
        return options
