# SPDX-License-Identifier: Apache-2.0
"""A service's configuration, read as the service reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_messaging import urls
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.reading import ServiceConfig, load
from hybrid_messaging.service_configs.settings import NOTIFICATIONS


@pytest.fixture
def main(tmp_path: Path) -> Path:
    path = tmp_path / "nova.conf"
    path.write_text("[DEFAULT]\ntransport_url = amqp://main/\n")
    return path


def put(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_later_files_and_the_default_directory_override(
    main: Path, tmp_path: Path
) -> None:
    second = put(
        tmp_path / "second.conf", "[DEFAULT]\ntransport_url = amqp://second/\n"
    )
    config = load([main, second])
    assert config.rpc_url == "amqp://second/"
    assert config.where("DEFAULT", "transport_url") == f"{second}, line 2"

    put(tmp_path / "nova.conf.d" / "2.conf", "[DEFAULT]\ntransport_url = amqp://two/\n")
    put(tmp_path / "nova.conf.d" / "1.conf", "[DEFAULT]\ntransport_url = amqp://one/\n")
    put(tmp_path / "nova.conf.d" / "3.txt", "[DEFAULT]\ntransport_url = amqp://no/\n")
    config = load([main, second])
    assert config.rpc_url == "amqp://two/"
    assert [Path(document.path).name for document in config.documents] == [
        "nova.conf",
        "second.conf",
        "1.conf",
        "2.conf",
    ]


def test_a_given_directory_replaces_the_default_one(main: Path, tmp_path: Path) -> None:
    put(tmp_path / "nova.conf.d" / "1.conf", "[DEFAULT]\ntransport_url = amqp://one/\n")
    put(tmp_path / "mine" / "1.conf", "[DEFAULT]\ntransport_url = amqp://mine/\n")
    assert load([main], [tmp_path / "mine"]).rpc_url == "amqp://mine/"
    with pytest.raises(ServiceConfigError, match="is not a directory"):
        load([main], [tmp_path / "none"])


def test_notifications_fall_back_to_rpc(main: Path) -> None:
    assert load([main]).notify_url == "amqp://main/"
    with main.open("a") as file:
        file.write("[oslo_messaging_notifications]\ntransport_url =\n")
    assert load([main]).notify_url == "amqp://main/"
    put(main, "[DEFAULT]\n")
    assert load([main]).notify_url == "rabbit://"


def test_our_environment_is_not_the_services(
    main: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_DEFAULT__TRANSPORT_URL", "amqp://ours/")
    assert load([main]).rpc_url == "amqp://main/"


def test_references_to_options_of_the_service(main: Path) -> None:
    put(
        main,
        "[DEFAULT]\nmy_ip = 10.0.0.1\nhost = $my_ip\n"
        "transport_url = rabbit://$bus.user:$$x@${host}/\n"
        "[bus]\nuser = me\n",
    )
    assert load([main]).rpc_url == "rabbit://me:$x@10.0.0.1/"


def test_a_reference_that_only_the_service_knows(main: Path) -> None:
    put(
        main,
        "[DEFAULT]\nname = $host\ntransport_url = rabbit://u:secret@$my_ip/\n"
        "[oslo_messaging_notifications]\ntopics = notifications,of_${name}\n"
        "transport_url = rabbit://b/\n",
    )
    config = load([main])
    assert config.unknown == (
        ("DEFAULT", "transport_url", "my_ip"),
        (NOTIFICATIONS, "topics", "host"),
    )
    assert config.conf[NOTIFICATIONS].topics == ["notifications", "of_$host"]
    assert config.is_unknown("DEFAULT", "transport_url")
    assert not config.is_unknown(NOTIFICATIONS, "transport_url")


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("cinder", "cluster"),
        ("ironic", "tempdir"),
        ("nova", "pybasedir"),
        ("tacker", "bind_host"),
        ("zun", "bindir"),
    ],
)
def test_services_register_more_than_addresses(
    tmp_path: Path, service: str, name: str
) -> None:
    path = tmp_path / f"{service}.conf"
    put(path, f"[oslo_messaging_rabbit]\nssl_ca_file = ${name}/ca.pem\n")
    assert load([path]).unknown == (("oslo_messaging_rabbit", "ssl_ca_file", name),)


def test_a_number_that_only_the_service_knows(main: Path) -> None:
    put(main, "[oslo_messaging_rabbit]\nrpc_conn_pool_size = $my_ip\n")
    with pytest.raises(ServiceConfigError, match="rpc_conn_pool_size") as caught:
        load([main])
    assert caught.value.line == 2


def test_a_reference_that_nobody_knows(main: Path) -> None:
    """As a dollar sign in a password is."""
    put(main, "[DEFAULT]\n# c\ntransport_url = rabbit://u:secret@$mine/\n")
    with pytest.raises(ServiceConfigError, match=r"refers to \$mine") as caught:
        load([main])
    assert caught.value.line == 3
    assert "secret" not in str(caught.value)


def test_what_a_package_has_read_before(tmp_path: Path) -> None:
    """As /usr/share/nova/nova-dist.conf of RDO."""
    main = tmp_path / "etc" / "nova" / "nova.conf"
    share = tmp_path / "usr" / "share" / "nova" / "nova-dist.conf"
    for path in (main, share):
        path.parent.mkdir(parents=True)
    put(main, "[DEFAULT]\ntransport_url = amqp://main/\n")
    put(
        share,
        "[DEFAULT]\ntransport_url = amqp://dist/\n"
        "[oslo_messaging_notifications]\ndriver = messagingv2\n",
    )
    config = load([main])
    assert config.rpc_url == "amqp://main/"
    assert config.conf[NOTIFICATIONS].driver == ["messagingv2"]
    assert config.where(NOTIFICATIONS, "driver") == f"{share}, line 4"
    assert config.where("DEFAULT", "transport_url") == f"{main}, line 2"
    assert [document.path for document in config.documents] == [str(main)]


@pytest.mark.parametrize(
    ("value", "rpc"), [("json-rpc", False), ("none", False), ("oslo", True)]
)
def test_rpc_without_a_bus(tmp_path: Path, value: str, rpc: bool) -> None:
    main = put(tmp_path / "ironic.conf", f"[DEFAULT]\nrpc_transport = {value}\n")
    assert load([main]).service.rpc is rpc


def test_rpc_that_has_to_be_switched_on(tmp_path: Path) -> None:
    main = put(tmp_path / "barbican.conf", "[queue]\nenable = true\n")
    assert load([main]).service.rpc is True
    put(main, "[queue]\nnamespace = barbican\n")
    assert load([main]).service.rpc is False


def multiplied(times: int, depth: int) -> str:
    """Options that refer to each other, so that the last one is long."""
    lines = ["x0 = 10", *(f"x{n + 1} = " + f"$x{n}" * times for n in range(depth))]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("times", "depth"), [(2, 40), (90_000, 2), (3, 100)])
def test_references_that_multiply_are_bounded(
    main: Path, times: int, depth: int
) -> None:
    text = "[DEFAULT]\n" + multiplied(times, depth)
    put(main, text + f"transport_url = amqp://$x{depth}/\n")
    with pytest.raises(
        ServiceConfigError, match=r"transport_url refers to .* exceeds 50,000"
    ) as caught:
        load([main])
    assert caught.value.line == depth + 3
    put(main, f"{text}[database]\nconnection = $x{depth}\n")
    assert load([main]).own_option("database", "connection") is None


@pytest.mark.parametrize("last", ["$a.b.c", "$a.b", "$A.b", "$DEFAULT.b", "$x60.b"])
def test_a_long_chain_of_references_that_ends_nowhere(main: Path, last: str) -> None:
    chain = "".join(f"x{n} = $x{n + 1}\n" for n in range(60))
    put(main, f"[DEFAULT]\ntransport_url = $x0\n{chain}x60 = {last}\n[a.b]\nc = 1\n")
    with pytest.raises(ServiceConfigError, match="refers to"):
        load([main])


def test_many_options_share_the_bound_of_references(main: Path) -> None:
    options = "rabbit_retry_interval rabbit_retry_backoff rabbit_interval_max"
    put(
        main,
        "[DEFAULT]\n"
        + multiplied(2, 13)
        + "[oslo_messaging_rabbit]\n".join(
            f"{name} = $x13\n" for name in options.split()
        ),
    )
    with pytest.raises(ServiceConfigError, match=r"refers to other options"):
        load([main])


def test_references_that_repeat_a_value_are_no_mistake(main: Path) -> None:
    hosts = ",".join(f"$user:$word@${{net}}.{n}" for n in range(200))
    put(
        main,
        f"[DEFAULT]\ntransport_url = rabbit://{hosts}/\n"
        "user = openstack\nword = wxyz\nnet = 10.0.0\n",
    )
    assert load([main]).rpc_url.count("openstack:wxyz@10.0.0.") == 200


def test_a_dollar_sign_in_a_password_is_no_reference_to_be_shown(main: Path) -> None:
    put(main, "[DEFAULT]\ntransport_url = rabbit://u:$secret@host/\n")
    with pytest.raises(ServiceConfigError, match=r"or \$\$ for a dollar") as caught:
        load([main])
    assert "secret" not in str(caught.value)


def test_a_value_that_cannot_be_converted(main: Path) -> None:
    put(main, "[Oslo_Messaging_Rabbit]\n\namqp_durable_queues = perhaps\n")
    with pytest.raises(
        ServiceConfigError, match=r"amqp_durable_queues: .*boolean"
    ) as at:
        load([main])
    assert at.value.line == 3


def test_files_that_oslo_config_cannot_read(main: Path) -> None:
    put(main, b"\xef\xbb\xbf[DEFAULT]\n")
    with pytest.raises(ServiceConfigError, match="byte order mark"):
        load([main])
    put(main, b"[DEFAULT]\n# caf\xe9\n")
    with pytest.raises(ServiceConfigError, match="line 2: the file is not UTF-8"):
        load([main])
    put(main, "[DEFAULT]\nnonsense\n")
    with pytest.raises(ServiceConfigError, match="line 2"):
        load([main])


@pytest.fixture
def config(main: Path) -> ServiceConfig:
    put(
        main,
        "[oslo_messaging_rabbit]\nssl = true\n[database]\nconnection = x\n"
        "[other]\nconnection = sqlite:///$state_path/x\n",
    )
    return load([main])


def test_options_of_a_url_override_the_files(config: ServiceConfig) -> None:
    url = urls.parse("rabbit://h/?ssl=false&rabbit_retry_interval=7")
    options = config.transport(url).options
    assert options.ssl is False
    assert options.rabbit_retry_interval == 7
    with pytest.raises(ValueError, match="names nonsense, which is not an option"):
        config.transport(urls.parse("rabbit://h/?nonsense=1"))
    with pytest.raises(
        ValueError, match=r"rabbit_retry_interval, expected Integer"
    ) as caught:
        config.transport(urls.parse("rabbit://h/?rabbit_retry_interval=hush"))
    assert "hush" not in str(caught.value)


def test_options_of_the_service_itself(config: ServiceConfig) -> None:
    assert config.own_option("database", "connection") == "x"
    assert config.own_option("api_database", "connection") is None
    assert config.own_option("other", "connection") is None
    assert config.own_option("notification", "messaging_urls", multi=True) is None
