# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of the README on releases of Debian or Ubuntu, from nothing.

Each platform gets a chroot that debootstrap makes, with Git, the machine's
certificates, and a clone of what is committed here. Both commands run in it as root.
Packages come from the mirror that apt uses on this machine, and from the index that
pip uses. Mounts and processes have namespaces of their own: the kernel removes them
with their first process, however this program ends.

The network is shared with the machine. It wants root, debootstrap, and a virtual
environment of ``tools/make-venv.sh``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
#: Debian 12 and 13, and the one with the newest Python.
PLATFORMS = ("bookworm", "trixie", "sid")
#: Whoever has a checkout has these; the commands of the README install the rest.
PRESENT = ("ca-certificates", "git")
#: Where the clone is in a chroot.
CLONE = "/opt/hybrid-messaging"
#: Seconds after which a command is ended as hanging.
LIMIT = 3 * 3600.0

NAMESPACES = (
    *("setpriv", "--pdeathsig=KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
#: Tests make network namespaces, for which the root has to be a mount. The shell stays,
#: as the first process: it reaps the orphans among the processes, as init does.
ENTER = """
mount --bind "$0" "$0"
mount -t proc proc "$0/proc"
mount --rbind /sys "$0/sys"
mount --rbind /dev "$0/dev"
mount -t tmpfs tmpfs "$0/dev/shm"
chroot "$0" "$@"
exit
"""
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
SURROUNDINGS = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    # pip and Node.js bring certificates of their own otherwise
    "PIP_CERT": CERTIFICATES,
    "NODE_EXTRA_CA_CERTS": CERTIFICATES,
}
#: What of this machine leads to the mirror and the index.
KEPT = re.compile(
    r"(https?|no)_proxy|PIP_(EXTRA_)?INDEX_URL|PIP_TRUSTED_HOST|npm_config_registry",
    re.IGNORECASE,
)
COPIED = (
    "/etc/hosts",
    "/etc/pip.conf",
    "/etc/resolv.conf",
    *map(str, Path("~/.config/pip").expanduser().glob("pip.conf")),
    *map(str, Path("/usr/local/share/ca-certificates").glob("*.crt")),
)


@dataclass(frozen=True)
class Result:
    """How a step on a platform ended; `log` is the file with what it said."""

    platform: str
    step: str
    exit: int
    seconds: int
    log: str


def mirror() -> str:
    """Return the URL that apt has for the packages of this machine's distribution."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"^(\S+) (Debian|Ubuntu)$", listed, re.MULTILINE)
    if not found:
        sys.exit("apt knows no mirror of Debian or Ubuntu: name one with --mirror URL")
    return found[1]


def inside(root: Path, command: str) -> list[str]:
    """Return the command that runs a shell command in the clone of a chroot."""
    kept = {name: os.environ[name] for name in os.environ if KEPT.fullmatch(name)}
    surroundings = [f"{name}={value}" for name, value in (SURROUNDINGS | kept).items()]
    return [
        *("bash", "-ec", ENTER, str(root)),
        *("env", "-i", *surroundings, "bash", "-c", f"cd {CLONE} && {command}"),
    ]


def making(platform: str, root: Path, source: str) -> Iterator[Sequence[str]]:
    """Return the commands that make a chroot with a clone of this checkout."""
    packages = f"--include={','.join(PRESENT)}"
    yield ["debootstrap", "--variant=minbase", packages, platform, str(root), source]
    clone = f"{root}{CLONE}"
    yield ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), clone]
    there = [name for name in COPIED if Path(name).is_file()]
    yield ["cp", "--parents", "--dereference", *there, str(root)]
    yield inside(root, "update-ca-certificates")


def run(command: Sequence[str], log: Path) -> int:
    """Run a command in namespaces of its own; no process of it outlives this.

    :returns: its exit code, or 124 if it was ended as hanging
    """
    with (
        log.open("ab") as output,
        subprocess.Popen(
            [*NAMESPACES, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            return process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            return 124
        finally:
            # The first process of the namespace: all others of it end before it has.
            # Killing unshare would not wait for them.
            if process.poll() is None:
                inner = psutil.Process(process.pid).children()
                for one in inner or [process]:
                    one.kill()


def try_platform(
    platform: str, options: argparse.Namespace, stages: Sequence[str]
) -> Iterator[Result]:
    """Make the chroot of a platform and run the commands of the README in it."""
    root = Path(tempfile.mkdtemp(prefix=f"{platform}-", dir=options.directory))
    # debootstrap leaves it as it is
    root.chmod(0o755)
    steps = {
        "make": making(platform, root, options.mirror),
        "quickstart": [
            inside(root, "tools/quickstart.sh && .venv/bin/hybrid-messaging down")
        ],
        "test": [inside(root, shlex.join(["tools/test.sh", *stages]))],
    }
    try:
        for step, commands in steps.items():
            began = time.monotonic()
            log = options.directory / f"{platform}-{step}.log"
            log.write_bytes(b"")
            say(f"{platform}: {step} ... ", end="")
            code = next((code for each in commands if (code := run(each, log))), 0)
            seconds = round(time.monotonic() - began)
            say(f"exit code {code} after {seconds} s")
            yield Result(platform, step, code, seconds, str(log))
            if code:
                say(ending(log))
                if step == "make":
                    return
    finally:
        if options.keep:
            say(f"{platform}: is in {root}")
        else:
            shutil.rmtree(root)


def ending(log: Path) -> str:
    """Return the last lines of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-20:]
    return "\n".join(f"    {line[:300]}" for line in lines)


def say(text: str, end: str = "\n") -> None:
    """Tell on standard error how it goes; standard output is for the results."""
    print(text, end=end, file=sys.stderr, flush=True)


def table(results: Sequence[Result]) -> str:
    """Return the results as a table."""
    rows = [asdict(result) for result in results]
    return "\n".join(
        f"{row['platform']:10}{row['step']:12}{row['exit']:>4}{row['seconds']:>9}"
        f"  {row['log']}"
        for row in [{name: name for name in Result.__annotations__}, *rows]
    )


def main() -> int:
    """Try the platforms that were asked for; return 0 if all commands succeeded."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s [OPTION...] [PLATFORM...] [-- STAGE...]",
        description="Run the commands of the README on other platforms, from nothing.",
        epilog="Of tools/test.sh, only the stages run that follow --.",
    )
    parser.add_argument(
        "platforms",
        nargs="*",
        metavar="PLATFORM",
        help=f"a release's code name, by default {', '.join(PLATFORMS)}",
    )
    parser.add_argument("-f", dest="format", choices=["table", "json"], default="table")
    parser.add_argument(
        "--directory",
        type=Path,
        default=ROOT / "build/platforms",
        help="for chroots and logs (%(default)s)",
    )
    parser.add_argument("--mirror", metavar="URL", help="by default that of apt here")
    parser.add_argument("--keep", action="store_true", help="do not remove chroots")
    own, stages = sys.argv[1:], []
    if "--" in own:
        split = own.index("--")
        own, stages = own[:split], own[split + 1 :]
    options = parser.parse_args(own)
    for platform in options.platforms:
        if not re.fullmatch("[a-z]+", platform):
            parser.error(f"{platform} is no code name of a release")
    if os.geteuid() != 0:
        parser.exit(2, "making a chroot takes root\n")
    if not shutil.which("debootstrap"):
        parser.exit(2, "there is no debootstrap: apt-get install debootstrap\n")
    options.mirror = options.mirror or mirror()
    options.directory.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = [
        result
        for platform in options.platforms or PLATFORMS
        for result in try_platform(platform, options, stages)
    ]
    if options.format == "json":
        print(json.dumps([asdict(result) for result in results], indent=2))
    else:
        print(table(results))
    return int(any(result.exit for result in results))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
