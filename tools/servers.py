"""Object stores on loopback for tests and benchmarks; standard library only.

    python tools/servers.py install ceph azurite         # what is not there yet
    python tools/servers.py start DIR ceph               # prints how tests and benchmarks find it
    python tools/servers.py check DIR                    # do all answer, on loopback alone?
    python tools/servers.py stop DIR
    python tools/servers.py run ceph azurite -- COMMAND  # start, run the command, stop

Servers keep their data in memory or below DIR, for as long as they run; `run` has a temporary
folder for that, and stops them however the command ends. A signal that ends `run` ends the command
before, and all it has started. See docs/servers.md for what each of them is good for.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from object_stores import SERVERS, Server, ServerError
from object_stores.command import leave_on_signals, run_command


def main() -> int:
    """Carry out one command."""
    options = parse_arguments()
    leave_on_signals()
    try:
        if options.command == "install":
            for name in options.servers:
                install(name)
        elif options.command == "start":
            for server in start(options.folder, options.servers, options.port):
                for name, text in server.variables.items():
                    print(f"export {name}={text}")
                    if name.startswith("ICECHUNK_TEST_S3_"):
                        print(f"export {name.replace('TEST', 'BENCH')}={text}")
        elif options.command == "run":
            return run(options.servers, options.run, if_possible=options.if_possible)
        else:
            for server in found(options.folder):
                server.check() if options.command == "check" else server.stop()
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    names = {"nargs": "+", "choices": list(SERVERS), "metavar": "SERVER"}
    install = commands.add_parser("install", help=f"install some of: {', '.join(SERVERS)}")
    install.add_argument("servers", **names)
    start = commands.add_parser("start", help="start servers, print the variables that name them")
    start.add_argument("folder", type=Path)
    start.add_argument("servers", **names)
    start.add_argument("--port", type=int, help="where the first listens, by default anywhere")
    for command in ("check", "stop"):
        commands.add_parser(command).add_argument("folder", type=Path)
    run = commands.add_parser("run", help="install and start servers, run a command, stop them")
    run.add_argument("servers", **names)
    run.add_argument(
        "--if-possible",
        action="store_true",
        help="do without those that cannot be installed, and say so, unless CI=true",
    )
    arguments, command = split_at_dashes(sys.argv[1:])
    options = parser.parse_args(arguments)
    options.run = command
    if (options.command == "run") != bool(command):
        parser.error("run, and nothing else, takes a command after --")
    return options


def install(name: str) -> None:
    """Install a server unless it is there."""
    kind = SERVERS[name]
    if kind.lacking():
        print(f"--- installing {kind.title}", file=sys.stderr, flush=True)
        kind.install()
        if lacking := kind.lacking():
            raise ServerError(f"{kind.title} has been installed, but there is no {lacking[0]}")


def start(folder: Path, names: list[str], port: int | None = None) -> list[Server]:
    """Start servers, each in a folder of its own; if one fails, none is left running."""
    servers = [SERVERS[name](folder / name) for name in names]
    try:
        for server in servers:
            server.start(port if server is servers[0] else None)
    except BaseException:
        stop(servers)
        raise
    return servers


def found(folder: Path) -> list[Server]:
    """Return the servers that were started in a folder and not stopped."""
    servers = [kind(folder / name) for name, kind in SERVERS.items()]
    return [server for server in servers if list(server.folder.glob("*.pid"))]


def stop(servers: list[Server]) -> None:
    """Stop servers, all of them even if one resists."""
    for server in reversed(servers):
        try:
            server.stop()
        except OSError as error:
            print(f"could not stop {server.title}: {error}", file=sys.stderr)


def run(names: list[str], command: list[str], *, if_possible: bool) -> int:
    """Run a command with servers that its environment names; return its exit code."""
    usable = []
    for name in names:
        try:
            install(name)
            usable.append(name)
        except ServerError as error:
            if not if_possible or os.environ.get("CI") == "true":
                raise
            print(f"--- DOING WITHOUT {SERVERS[name].title}: {error}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="icechunk-servers-") as folder:
        servers = start(Path(folder), usable)
        try:
            variables = {k: v for server in servers for k, v in server.variables.items()}
            return run_command(command, variables)
        finally:
            stop(servers)


def split_at_dashes(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part the command line into what is for this script and the command to run."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
