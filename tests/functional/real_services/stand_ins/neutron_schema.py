# SPDX-License-Identifier: Apache-2.0
"""Make Neutron's database from its models: ``neutron_schema.py URL``.

Its migrations alter constraints, which SQLite cannot. Runs in the services'
environment.
"""

import sys

import sqlalchemy
from neutron.db.migration.models import head

head.get_metadata().create_all(sqlalchemy.create_engine(sys.argv[1]))
