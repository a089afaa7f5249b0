# SPDX-License-Identifier: Apache-2.0
"""Services' configuration files: found, read, judged, rewritten, and put back."""
