# SPDX-License-Identifier: Apache-2.0
"""Mistakes in the files of TLS options are named before anything is connected to."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from oslo_messaging import get_rpc_transport
from oslo_messaging.exceptions import ConfigurationError
from tests.functional.certificates import Authority, Certificate
from tests.functional.rpc import configuration

from hybrid_messaging.drivers import oslo, tls_files
from hybrid_messaging.drivers.zmq import options as zmq_options

PASSWORD = "open sesame"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Certificate:
    return authority.issue("ours")


@pytest.fixture(scope="module")
def encrypted(ours: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encrypted") / "encrypted.key"
    command = ["openssl", "pkey", "-in", str(ours.key), "-aes256", "-out", str(path)]
    subprocess.run([*command, "-passout", f"pass:{PASSWORD}"], check=True)
    return path


def check_pair(certificate: Path, key: Path | str, password: str = "") -> None:
    tls_files.check_pair("the_file", str(certificate), "the_key", str(key), password)


def test_good_files_are_good(
    authority: Authority, ours: Certificate, encrypted: Path, tmp_path: Path
) -> None:
    tls_files.check_authorities("the_ca", str(authority.certificate))
    tls_files.check_authorities("the_ca", str(tmp_path))  # a directory
    check_pair(ours.certificate, ours.key)
    check_pair(ours.certificate, encrypted, PASSWORD)
    both = tmp_path / "both.pem"
    both.write_bytes(ours.certificate.read_bytes() + ours.key.read_bytes())
    check_pair(both, "")


@pytest.fixture(params=["missing", "no PEM", "a pipe", "a null byte"])
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "broken.pem"
    if request.param == "no PEM":
        path.write_text("no certificate")
    elif request.param == "a pipe":
        os.mkfifo(path)
    elif request.param == "a null byte":
        return tmp_path / "broken\0.pem"
    return path


def test_bad_files_are_named(broken: Path, ours: Certificate) -> None:
    with pytest.raises(ConfigurationError, match=r"the_ca .*broken"):
        tls_files.check_authorities("the_ca", str(broken))
    with pytest.raises(ConfigurationError, match=r"the_file .*broken"):
        check_pair(broken, ours.key)
    with pytest.raises(ConfigurationError, match=r"the_key .*broken"):
        check_pair(ours.certificate, broken)


def test_keys_that_do_not_fit_are_named(
    authority: Authority, ours: Certificate, encrypted: Path
) -> None:
    others = authority.issue("others")
    for key, password in (
        (others.key, ""),
        (encrypted, "wrong"),
        (encrypted, ""),  # nobody is asked for it on a terminal
    ):
        with pytest.raises(ConfigurationError, match=f"the_key {key}"):
            check_pair(ours.certificate, key, password)


@pytest.mark.parametrize("scheme", ["zmq", "zmq+sentinel"])
@pytest.mark.parametrize("option", ["ssl_ca_file", "ssl_cert_file", "ssl_key_file"])
def test_a_transport_of_zmq_names_what_is_wrong(
    authority: Authority, ours: Certificate, broken: Path, scheme: str, option: str
) -> None:
    conf = configuration()
    oslo.register_options(conf, zmq_options.REDIS_GROUP, zmq_options.REDIS_OPTIONS)
    files: dict[str, Any] = {
        "ssl_ca_file": authority.certificate,
        "ssl_cert_file": ours.certificate,
        "ssl_key_file": ours.key,
        option: broken,
    }
    for name, path in files.items():
        conf.set_override(name, str(path), "matchmaker_redis")
    with pytest.raises(ConfigurationError) as caught:
        get_rpc_transport(conf, f"{scheme}://127.0.0.1:9/")
    assert f"[matchmaker_redis] {option} {broken}" in str(caught.value)


def test_a_transport_url_of_zmq_that_names_a_bad_file_is_refused(broken: Path) -> None:
    if "\0" in str(broken):
        pytest.skip("no URL holds it")
    url = f"zmq://127.0.0.1:9/?zmq_redis_ca_file={broken}"
    with pytest.raises(ConfigurationError) as caught:
        get_rpc_transport(configuration(), url)
    assert f"[oslo_messaging_zmq] zmq_redis_ca_file {broken}" in str(caught.value)


def test_a_key_without_its_certificate_is_a_mistake(ours: Certificate) -> None:
    conf = configuration()
    oslo.register_options(conf, zmq_options.REDIS_GROUP, zmq_options.REDIS_OPTIONS)
    conf.set_override("ssl_key_file", str(ours.key), "matchmaker_redis")
    with pytest.raises(ConfigurationError, match="there is no ssl_cert_file"):
        get_rpc_transport(conf, "zmq://127.0.0.1:9/")
