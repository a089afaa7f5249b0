# SPDX-License-Identifier: Apache-2.0
"""Anything in a topology file: a topology, or one sentence about it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hybrid_messaging import resources
from hybrid_messaging.cluster import reading, rendering

SAMPLE = (resources.FILES / "samples" / "cluster.yaml").read_text()

words = st.sampled_from(
    [
        *("cluster", "hosts", "zones", "roles", "address", "zone", "tls", "ports"),
        *("interior", "edge", "rabbitmq", "redis", "a", "192.0.2.1", "yes", "5671"),
    ]
)
values = st.recursive(
    words | st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4)
    ),
    max_leaves=20,
)


def read(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        topology = reading.read(path)
    except reading.TopologyError as error:
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)
    else:
        # whatever was understood can be rendered
        rendering.render(topology, path.with_suffix(".none"), write=False)


@pytest.fixture(scope="module")
def path(directory: Path) -> Path:
    return directory / "mq.yaml"


@given(st.binary(max_size=200))
def test_bytes(path: Path, data: bytes) -> None:
    read(path, data)


@given(values)
def test_values(path: Path, value: object) -> None:
    read(path, yaml.safe_dump(value).encode())


@given(st.data())
def test_a_sample_with_a_piece_exchanged(path: Path, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(SAMPLE)))
    end = data.draw(st.integers(start, min(len(SAMPLE), start + 20)))
    piece = data.draw(words | st.text("{}[]:,&*!|>'\"\n -#%@`\t", max_size=6))
    read(path, (SAMPLE[:start] + piece + SAMPLE[end:]).encode())
