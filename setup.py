# SPDX-License-Identifier: Apache-2.0
"""Lets tools that still look for a setup.py find setup.cfg."""

import setuptools

setuptools.setup()
