# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with services' transports, by family.

A rule is a function of a service and its transports that yields problems of the table
in `hybrid_messaging.service_configs.codes`. Adding one is adding a function, its place
in `RULES` or `OF_ALL`, and a row of that table. What servers tell of their state is
found below `hybrid_messaging.servers` (`Transport.inspect`), with rows of the same
table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hybrid_messaging.service_configs.problem import Problem
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.routes import Routes
from hybrid_messaging.service_configs.rules import (
    common_bus,
    contradictions,
    deployment,
    files,
    kafka,
    members,
    notifications,
    options,
    rabbit,
    servers,
    strays,
    transports,
    zmq,
)

Rule = Callable[[ServiceConfig, Routes], Iterator[Problem]]
"""Judges one service."""

RULES: Sequence[Rule] = (
    transports.parsed,
    transports.importable,
    kafka.authenticated,
    zmq.found,
    zmq.encrypted,
    transports.fit,
    rabbit.accepted,
    servers.encrypted,
    servers.reached,
    servers.sound,
    kafka.large_enough,
    rabbit.without_leftovers,
    rabbit.quorum_has_exchange,
    zmq.resolved,
    notifications.published,
    transports.set_at_all,
    transports.apart,
    notifications.stored,
    rabbit.durable,
    notifications.consumed,
    files.private,
    options.effective,
    contradictions.one_kind_of_queue,
    contradictions.streams_are_complete,
    contradictions.pool_has_room,
    contradictions.quorum_queues_stay,
    contradictions.manager_can_lock,
    contradictions.names_stay,
    contradictions.heartbeats_are_on,
    contradictions.tls_is_on,
    contradictions.name_is_verified,
    contradictions.waiting_ends,
    strays.checked,
    strays.unquoted,
    strays.not_overridden,
    strays.not_over_rpc,
    strays.kept_together,
    strays.unchanged,
)

OF_ALL: Sequence[members.Rule] = (
    deployment.listening_apart,
    deployment.declared_alike,
    common_bus.together,
    deployment.cells_mapped,
)
