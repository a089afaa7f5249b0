# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the interoperability tests: those of the functional ones."""

from tests.functional.conftest import (
    bus,
    make_router,
    own_bus,
    pytest_generate_tests,
    pytest_report_header,
    router_kind,
)

__all__ = [
    "bus",
    "make_router",
    "own_bus",
    "pytest_generate_tests",
    "pytest_report_header",
    "router_kind",
]
