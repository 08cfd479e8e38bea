"""Specs by class: `Worker.spec("id", ...)`, and a bare class in a list of children."""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import Context
from typing import Any

from allm.supervisors.lanes import Dispatcher
from allm.supervisors.policy import Backoff, Policy, RestartType
from allm.supervisors.spec import ChildSpec, Mailbox, Shutdown

__all__ = ["Specified"]


class Specified:
    """A class whose instances can be children: it makes their specs."""

    @classmethod
    def spec(
        cls,
        id: Hashable,
        /,
        *args: Any,
        restart: RestartType = "permanent",
        shutdown: Shutdown | None = None,
        significant: bool = False,
        policy: Policy | None = None,
        dispatcher: Dispatcher | None = None,
        backoff: Backoff | None = None,
        mailbox: Mailbox = "drop",
        max_redeliver: int = 0,
        start_timeout: float | None = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> ChildSpec:
        """Make the spec of a child of this class: `args`, and the keywords that no field of `ChildSpec` has, are the actor's own.

        A class in a list of children stands for ``spec(its name)``: override this to say how children of a class are supervised.
        """
        return ChildSpec(
            id,
            (cls, args, kwargs) if kwargs else (cls, args),
            restart=restart,
            shutdown=shutdown,
            significant=significant,
            policy=policy,
            dispatcher=dispatcher,
            backoff=backoff,
            mailbox=mailbox,
            max_redeliver=max_redeliver,
            start_timeout=start_timeout,
            context=context,
        )
