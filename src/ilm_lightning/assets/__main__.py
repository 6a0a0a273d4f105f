"""List, fetch and check assets: ``python -m ilm_lightning.assets [list | get NAME… | verify]``."""

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from .cache import cache_folder
from .errors import AssetError
from .fetch import is_offline, resolve
from .registry import REGISTRY
from .state import DAMAGED, FETCHABLE, OWN_COPY, PRESENT, AssetState, inspect_all

_COLOURS = {PRESENT: "green", FETCHABLE: "cyan", DAMAGED: "yellow"}


def table(states: Sequence[AssetState], title: str) -> Table:
    """The list as a table; ``*`` marks what the main job needs."""
    shown = Table(title=title, title_justify="left", caption="* needed by the main job", caption_justify="left")
    for column in ("name", "state", "source", "MB", "licence", "note"):
        shown.add_column(column, justify="right" if column == "MB" else "left", overflow="fold")
    for state in states:
        colour = _COLOURS.get(state.state, "red")
        own = state.path if state.source == OWN_COPY else ""
        last = "; ".join(part for part in (own, state.note) if part)
        shown.add_row(
            state.name + (" *" if state.needed else ""),
            f"[{colour}]{state.state}[/]",
            state.source,
            f"{state.size / 1e6:.0f}",
            state.licence,
            last,
        )
    return shown


def _pairs(items: Sequence[str]) -> dict[str, str]:
    """``NAME=PATH`` arguments as a mapping.

    Raises:
        AssetError: an argument has another form or an unknown name.
    """
    pairs = {}
    for item in items:
        name, equals, path = item.partition("=")
        if not equals or not path:
            raise AssetError(f"--path takes NAME=PATH, not {item!r}")
        if name not in REGISTRY:
            raise AssetError(f"no asset is called {name!r}; there are {', '.join(REGISTRY)}")
        pairs[name] = path
    return pairs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ilm_lightning.assets", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--cache", help="cache folder (default: $ILM_CACHE or ~/.cache/ilm_lightning)")
    common.add_argument("--path", action="append", default=[], metavar="NAME=PATH", help="your own copy of an asset")
    common.add_argument("--offline", action="store_true", help="touch no network (as ILM_OFFLINE=1)")
    commands = parser.add_subparsers(dest="command")
    listing = commands.add_parser("list", parents=[common], help="what is here and where it came from")
    verify = commands.add_parser("verify", parents=[common], help="hash every cached file again")
    for command in (listing, verify):
        command.add_argument("--json", action="store_true", help="print JSON")
    get = commands.add_parser("get", parents=[common], help="fetch assets into the cache")
    get.add_argument("names", nargs="+", metavar="NAME", help="asset names, or: needed")
    return parser


def _show(arguments: argparse.Namespace, console: Console) -> int:
    cache = cache_folder(arguments.cache)
    offline = is_offline(True if arguments.offline else None)
    full = arguments.command == "verify"
    states = inspect_all(cache, overrides=_pairs(arguments.path), offline=offline, full=full)
    if arguments.json:
        console.print_json(json.dumps([asdict(state) for state in states]))
    else:
        console.print(table(states, f"assets, cache {cache}"))
        where = f" --cache {shlex.quote(arguments.cache)}" if arguments.cache else ""
        for state in states:
            if state.state == DAMAGED:
                remedy = f"python -m ilm_lightning.assets get {state.name}{where}"
                told = f"{state.name}: {state.note}; this fetches it again: {remedy}"
                console.print(told, soft_wrap=True, markup=False)
    return int(full and any(state.state == DAMAGED for state in states))


def _tell(error: AssetError) -> None:
    # names and paths may hold square brackets, which are no markup here
    Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)


def _get(arguments: argparse.Namespace, console: Console) -> int:
    overrides = _pairs(arguments.path)
    needed = [name for name, asset in REGISTRY.items() if asset.needed]
    names = [name for given in arguments.names for name in (needed if given == "needed" else [given])]
    failed = 0
    for name in dict.fromkeys(names):
        try:
            found = resolve(
                name, cache_dir=arguments.cache, overrides=overrides, offline=True if arguments.offline else None
            )
        except AssetError as error:
            _tell(error)
            failed += 1
            continue
        console.print(f"{name}: {found.name}, {found.source}, {found.path}", highlight=False, soft_wrap=True)
        if found.source.startswith("path "):
            console.print(f"  used where it lies; runs find it at $ILM_DATA/{name}", highlight=False, soft_wrap=True)
    return int(failed > 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; default ``sys.argv``.

    Returns:
        Exit status: 1 if an asset could not be had or is damaged, else 0.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    # plain ``python -m ilm_lightning.assets`` and options alone mean the list
    if not given or (given[0].startswith("-") and given[0] not in {"-h", "--help"}):
        given.insert(0, "list")
    arguments = _parser().parse_args(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        return _get(arguments, console) if arguments.command == "get" else _show(arguments, console)
    except AssetError as error:
        _tell(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
