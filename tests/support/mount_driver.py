"""A program that mounts what its only argument, in JSON, describes, until it must stop.

{"config": the settings, "switches": {origin's id: switch file}}: an origin with a switch becomes a `FaultyOrigin`.
Says "mounted" and then every event of the bus on standard output, one JSON object a line.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from pathlib import Path

from musicfs.app.app import open_driver
from musicfs.app.components import Components
from musicfs.config.models import Config, OriginConfig
from musicfs.daemon.process import serve
from musicfs.errors import MusicFSError, UserError
from musicfs.events import Event
from musicfs.origin import Origin
from tests.support.faulty import FaultyOrigin


def say(kind: str, **fields: object) -> None:
    os.write(1, json.dumps({"event": kind, **fields}, default=str).encode() + b"\n")


def tell(event: Event) -> None:
    say(type(event).__name__, **dataclasses.asdict(event))


def main(argument: str) -> int:
    wanted = json.loads(argument)
    switches = {id: Path(switch) for id, switch in wanted["switches"].items()}

    def open_origin(config: OriginConfig, populated: bool) -> Origin:
        origin = open_driver(config, populated)
        return FaultyOrigin(origin, switches[config.id]) if config.id in switches else origin

    def mounted(parts: Components) -> None:
        parts.bus.listen(tell)
        say("mounted", pid=os.getpid())

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    try:
        serve(Config.model_validate(wanted["config"]), mounted, open_origin)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except MusicFSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
