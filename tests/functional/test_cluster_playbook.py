# SPDX-License-Identifier: Apache-2.0
"""The playbook for rendered clusters, run by Ansible on an /etc that is a copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_messaging import resources
from hybrid_messaging.cluster import reading, rendering

PLAYBOOK = resources.FILES / "samples" / "cluster-playbook.yaml"
TOPOLOGY = """\
cluster: trial
directory: /etc/mq
state: {state}
user: mq-trial
hosts:
  mq1: {{address: 127.0.71.1, roles: [{roles}]}}
"""
#: Records what it is asked for; every unit is there.
SYSTEMCTL = """\
#!/bin/sh
echo "$@" >> {log}
case "$*" in
    *show*) echo LoadState=loaded; echo ActiveState=active ;;
    *is-enabled*) echo enabled ;;
esac
"""

pytestmark = [
    pytest.mark.skipif(
        shutil.which("ansible-playbook") is None, reason="there is no ansible-playbook"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="makes a mount namespace: needs root"),
]


class Host:
    """This machine with a copy of /etc, and without systemd.

    :param place: a directory of its own
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self.etc, self.calls = place / "etc", place / "calls"
        (place / "state").mkdir()
        shutil.copytree("/etc", self.etc, symlinks=True, ignore_dangling_symlinks=True)
        program = place / "bin" / "systemctl"
        program.parent.mkdir()
        program.write_text(SYSTEMCTL.format(log=self.calls))
        program.chmod(0o755)

    def play(self, roles: str) -> None:
        """Render the host with some roles, and carry that there."""
        self.calls.write_text("")
        topology = self._place / "mq.yaml"
        text = TOPOLOGY.format(roles=roles, state=self._place / "state")
        topology.write_text(text)
        rendering.render(reading.read(topology), self._place / "mq")
        command = [
            *("ansible-playbook", "--connection", "local", "--inventory"),
            *(str(self._place / "mq" / "inventory.yaml"), str(PLAYBOOK)),
            *("--extra-vars", f"ansible_python_interpreter={sys.executable}"),
        ]
        done = subprocess.run(
            [
                *("unshare", "--mount", "sh", "-c"),
                'mount --bind "$0" /etc && exec "$@"',
                *(str(self.etc), *command),
            ],
            env={
                **os.environ,
                "PATH": f"{self._place / 'bin'}:{os.environ['PATH']}",
                "ANSIBLE_NOCOLOR": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def asked(self) -> set[tuple[str, str]]:
        """What systemd was asked to do, and with which unit."""
        words = [line.split() for line in self.calls.read_text().splitlines()]
        return {
            (word[-2], word[-1].removesuffix(".service"))
            for word in words
            if len(word) > 1
            and word[-2] in ("start", "stop", "restart", "enable", "disable")
        }


def test_what_a_host_no_longer_is_goes_from_it(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.play("redis, kafka")
    mine = host.etc / "mq"
    assert (mine / "redis" / "redis.conf").exists()
    assert ("restart", "hybrid-messaging-kafka") in host.asked()
    host.play("redis, kafka")
    assert not any(verb in ("restart", "stop") for verb, _ in host.asked())
    host.play("redis")
    units = {path.name for path in (host.etc / "systemd" / "system").glob("hybrid-*")}
    assert units == {"hybrid-messaging-redis.service"}
    assert ("stop", "hybrid-messaging-kafka") in host.asked()
    assert not (mine / "kafka").exists()
    assert not (mine / "systemd" / "hybrid-messaging-kafka.service").exists()
    assert (mine / "redis" / "redis.conf").exists()
