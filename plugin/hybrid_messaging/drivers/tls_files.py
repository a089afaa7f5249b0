# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the files that options for TLS name, found before they are used.

Python's TLS says what is wrong with a file, but neither which one it is nor which
option names it.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from oslo_messaging.exceptions import ConfigurationError


def check_authorities(option: str, path: str) -> None:
    """See that certificates of authorities can be used.

    :param option: names them, with its group
    :param path: a file, or a directory of files
    :raises ConfigurationError: they cannot
    """
    _check_readable(option, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if Path(path).is_dir():
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except OSError as error:
        raise ConfigurationError(
            f"{option} {path}: no certificate in PEM can be read ({_reason(error)})"
        ) from error


def check_pair(
    certificate_option: str,
    certificate: str,
    key_option: str,
    key: str,
    password: str | None = None,
) -> None:
    """See that a certificate and its private key can be used.

    :param certificate: the path of a file
    :param key: the path of a file; empty: that of the certificate
    :param password: of the key, or empty; None: no option gives one
    :raises ConfigurationError: they cannot
    """
    _check_readable(certificate_option, certificate)
    if key:
        _check_readable(key_option, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # without any password, OpenSSL would ask for one on the terminal
        context.load_cert_chain(certificate, key or certificate, password or "")
    except (OSError, ValueError) as error:
        key_is = (
            "the key is not encrypted"
            if password is None
            else "ssl_key_password is right, if the key is encrypted"
        )
        raise ConfigurationError(
            f"{certificate_option} {certificate}, {key_option} {key or certificate}:"
            f" {_reason(error)}; check that they belong together, that each is in PEM,"
            f" and that {key_is}"
        ) from error


def _check_readable(option: str, path: str) -> None:
    try:
        found = Path(path)
        # opening what is neither may wait for ever
        if found.exists() and not (found.is_dir() or found.is_file()):
            raise ValueError("this is no regular file")
        if not found.is_dir():
            with found.open("rb"):
                pass
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{option} {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
