# SPDX-License-Identifier: Apache-2.0
"""The services of a deployment, as rules see them that compare services."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hybrid_messaging.service_configs.problem import Problem
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.routes import Routes


class Member(NamedTuple):
    """One of the services; `problems` are those of its own, and take further ones."""

    config: ServiceConfig
    routes: Routes
    problems: list[Problem]


Rule = Callable[[Sequence[Member]], None]
"""Judges all services, and adds to their problems."""
