# SPDX-License-Identifier: Apache-2.0
"""The catalogue of services is held against their code."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import compare_catalogue

CODE = """\
import oslo_messaging as messaging
opts = [cfg.StrOpt("host"), cfg.StrOpt("state_path")]
paths = [cfg.StrOpt("bindir"), cfg.StrOpt("pybasedir")]
def init(conf):
    messaging.set_transport_defaults("masakari")
    return messaging.get_rpc_transport(conf)
"""


@pytest.mark.parametrize(
    ("name", "code", "code_of_exit", "said"),
    [
        ("masakari", CODE, 0, "masakari: as in the code"),
        ("masakari", CODE.replace('"masakari"', '"m"'), 1, "exchange masakari"),
        ("masakari", CODE.replace("get_rpc", "get_notification"), 1, "rpc, in"),
        ("masakari", CODE.replace('"host"', '"my_ip"'), 1, "registers ['host']"),
        (
            "zun",
            CODE.replace("get_rpc", "get_notification").replace("masakari", "zun"),
            1,
            "publishes nothing",
        ),
        ("cyborg", "rpc.set_defaults(control_exchange='cyborg')\n", 1, "cyborg: rpc"),
    ],
)
def test_differences_are_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    code: str,
    code_of_exit: int,
    said: str,
) -> None:
    (tmp_path / name / "tests").mkdir(parents=True)
    (tmp_path / name / "rpc.py").write_text(code)
    (tmp_path / name / "tests" / "rpc.py").write_text('set_transport_defaults("no")')
    assert compare_catalogue.main([str(tmp_path)]) == code_of_exit
    assert said in capsys.readouterr().out
