# SPDX-License-Identifier: Apache-2.0
"""Recognise a service's file that a deployment tool writes again when it runs.

Some tools say so in the first lines of what they write. Kolla's templates, Puppet's
modules and charts do not: their files are known by where they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from hybrid_messaging.service_configs.document import Document


class Author(NamedTuple):
    """Who writes a file.

    :param name: as people know it
    :param tool: one of `deployment_tools.NAMES`, which its variables are; None: unknown
    """

    name: str
    tool: str | None


_KOLLA = Author("kolla-ansible", "kolla-ansible")
_ANSIBLE = Author("Ansible", "openstack-ansible")
_KUBERNETES = Author("Kubernetes", "openstack-helm")
_PUPPET = Author("Puppet", "puppet")
_JUJU = Author("Juju", "charms")

#: What comments at the top of a file say, in lower case.
_HEADERS = (
    (re.compile(r"ansible[ _]managed"), _ANSIBLE),
    (re.compile(r"(maintained|managed) by (juju|[\w-]+ charm)"), _JUJU),
    (re.compile(r"(managed|generated) by puppet"), _PUPPET),
    (re.compile(r"(managed|generated) by chef"), Author("Chef", None)),
    (re.compile(r"managed by salt"), Author("Salt", None)),
)
#: Lines in which a header is looked for.
_LINES = 12
#: Where Kubernetes has the files of a ConfigMap or a Secret: `nova.conf` leads to
#: `..data/nova.conf`, and `..data` to a directory `..2026_11_29_…`.
_DATA = re.compile(r"\.\.\S+")


def author(document: Document) -> Author | None:
    """Who has written a file, if it shows."""
    path = Path(document.path).absolute()
    real = path.resolve()
    if any(map(_DATA.fullmatch, real.parts)):
        return _KUBERNETES
    for each in (path, real):
        parts = each.parts
        if "puppet-generated" in parts:  # TripleO's
            return _PUPPET
        directory = each.parent
        if directory.suffix == ".d":
            directory = directory.parent
        if directory.parent.name == "kolla" and directory.name != "config":
            return _KOLLA
        if parts[1:3] == ("openstack", "venvs"):
            return _ANSIBLE
    top = [line for line in document.lines[:_LINES] if line.startswith(("#", ";"))]
    text = "\n".join(top).lower()
    return next((author for header, author in _HEADERS if header.search(text)), None)
