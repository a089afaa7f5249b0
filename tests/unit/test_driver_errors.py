# SPDX-License-Identifier: Apache-2.0
"""What services catch when a message does not get through."""

from __future__ import annotations

import pytest
from oslo_messaging.exceptions import (
    MessageDeliveryFailure,
    MessageUndeliverable,
    MessagingException,
    MessagingTimeout,
)

from hybrid_messaging.drivers import errors

TIMEOUT, FAILURE = {MessagingTimeout}, {MessageDeliveryFailure}


@pytest.mark.parametrize(
    ("cause", "of_call", "of_cast"),
    [
        (errors.TargetUnreachable, TIMEOUT, FAILURE),
        (errors.ServersBusy, TIMEOUT, FAILURE),
        (errors.ServerLost, TIMEOUT, FAILURE),
        (errors.BusLost, TIMEOUT | FAILURE, TIMEOUT | FAILURE),
        (errors.BusUnavailable, TIMEOUT | FAILURE, TIMEOUT | FAILURE),
        (errors.MessageRefused, FAILURE, FAILURE),
        (errors.ReplyMalformed, set(), set()),
    ],
)
def test_each_cause_is_what_its_callers_catch(
    cause: type[errors.DeliveryError], of_call: set[type], of_cast: set[type]
) -> None:
    for is_call, expected in ((True, of_call), (False, of_cast)):
        error = errors.make(cause, is_call, "Nobody is there.")
        assert isinstance(error, cause)
        assert isinstance(error, MessagingException)
        assert str(error) == "Nobody is there."
        assert {
            kind
            for kind in (MessagingTimeout, MessageDeliveryFailure)
            if isinstance(error, kind)
        } == expected


def test_who_asks_for_delivery_at_least_once_hears_that_there_was_none() -> None:
    error = errors.make(errors.TargetUnreachable, True, "Nobody listens.")
    assert isinstance(error, MessageUndeliverable)
    assert error.routing_key is None
