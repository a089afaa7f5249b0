# SPDX-License-Identifier: Apache-2.0
"""RPC over a direct transport, notifications over a queueing one, for OpenStack.

`modes` has the mode table, and `urls` transport URLs. A `state` is what `up` has
started; a `state_directory` keeps it. `serving` says whether a bus serves services.
What others need: `resources` finds our files, `json_files`, `whole_file`, `path_walk`
and `locks` are about files, `attempts` tries again, `tls` and `log_safety` are for all
our programs. doc/source/architecture.rst shows packages, and which may import which.
"""
