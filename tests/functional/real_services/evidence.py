# SPDX-License-Identifier: Apache-2.0
"""What the services' own logs and ceilometer's file say about the messages.

oslo.messaging's ``log`` notification driver writes every notification that a
service sends, and its RPC server a line for every request it takes, whatever
the transport is: an account that owes nothing to the code under test.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container, Iterable
from pathlib import Path

#: A notification's identity: its message id and its event type.
Notification = tuple[str, str]

# behind one of an error, oslo.log adds the exception
_NOTIFICATION = re.compile(r" [A-Z]+ oslo\.messaging\.notification\.\S+ .*?(\{.*)$")
_REQUEST = re.compile(
    r" DEBUG oslo_messaging\.rpc\.server .*Receive incoming message "
    r".* and method: (\S+)\. "
)
#: Where notifications are queued: a queue for each topic and priority.
_NOTIFICATION_QUEUE = re.compile(
    r"(?:notifications|ironic_versioned_notifications)"
    r"\.(?:audit|debug|info|warn|error|critical|sample)"
)
#: RabbitMQ's own exchanges, and the one that oslo.messaging publishes to by default.
_COMMON_EXCHANGE = re.compile(r"|openstack|amq\..*")
_ERROR = re.compile(
    r" (?:ERROR|CRITICAL) (?:oslo[._]messaging(?!\.notification)|hybrid_messaging)"
)


def published(logs: Iterable[Path]) -> Counter[Notification]:
    """Return the notifications that the services say they have sent."""
    found = Counter[Notification]()
    for line in _lines(logs):
        if match := _NOTIFICATION.search(line):
            notification, _ = json.JSONDecoder().raw_decode(match[1])
            found[notification["message_id"], notification["event_type"]] += 1
    return found


def stored(events: Path) -> Counter[Notification]:
    """Return the notifications that ceilometer has written into its file."""
    if not events.exists():
        return Counter()
    parsed = (json.loads(line) for line in whole_lines(events))
    return Counter((event["message_id"], event["event_type"]) for event in parsed)


def requests(log: Path) -> Counter[str]:
    """Return the RPC methods that a service has been asked for."""
    return Counter(
        match[1] for line in whole_lines(log) if (match := _REQUEST.search(line))
    )


def errors(logs: Iterable[Path]) -> list[str]:
    """Return the lines in which a service complains about its messaging."""
    return [line for line in _lines(logs) if _ERROR.search(line)]


def not_for_notifications(
    queues: Iterable[str], exchanges: Iterable[str] = (), known: Container[str] = ()
) -> list[str]:
    """Return what a broker has that no notification needs: it would be for RPC.

    :param known: exchanges that services publish notifications to
    """
    return [
        *(f"queue {q}" for q in queues if not _NOTIFICATION_QUEUE.fullmatch(q)),
        *(
            f"exchange {e}"
            for e in exchanges
            if e not in known and not _COMMON_EXCHANGE.fullmatch(e)
        ),
    ]


def whole_lines(path: Path) -> list[str]:
    """Return a file's lines without one that is being written right now."""
    text = path.read_text(errors="replace")
    return text[: text.rfind("\n") + 1].splitlines()


def _lines(paths: Iterable[Path]) -> Iterable[str]:
    for path in paths:
        yield from whole_lines(path)
