"""`Fake`: an engine that plays scripts, and what it was asked. The items of a script are told in `allm.providers.fake`."""

from collections.abc import Sequence
from typing import Any

from allm.engine import Engine
from allm.providers.fake_log import keep_requests, log_of
from allm.requests import Request

__all__ = ["Fake"]


class Fake:
    """`Fake([("text", "Hi"), ("finish", "stop")]).engine` plays one script for every call; `Fake(scripts=[...])` one for each in turn.

    `calls` counts calls (not attempts), `requests` are the requests as the engine sent them, merged and checked.
    """

    def __init__(
        self,
        script: Sequence[Sequence[Any]] | None = None,
        *,
        scripts: Sequence[Sequence[Sequence[Any]]] | None = None,
        retry_until_call: int = 1,
        **engine: Any,
    ) -> None:
        opts: dict[str, Any] = {"record": True, "retry_until_call": retry_until_call}
        if script is not None:
            opts["script"] = script
        if scripts is not None:
            opts["scripts"] = scripts
        self.engine = Engine(engine.pop("name", "fake:any"), adapter_opts=opts, **engine)
        self._requests = keep_requests(self.engine)

    @property
    def calls(self) -> int:
        """How many calls there were."""
        return log_of(self.engine).calls

    @property
    def requests(self) -> tuple[Request, ...]:
        """What was asked, in order."""
        return tuple(self._requests)
