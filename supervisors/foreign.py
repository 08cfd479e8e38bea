"""A plain Pykka actor as a child.

Its end is seen by a wrapper round its loop, whichever way the loop ends. What stays Pykka's: a shutdown waits behind
its backlog, a failed ask does not end it, a kill only lets go of its thread, and it cannot be monitored or linked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pykka
from pykka import ActorRef, ActorRegistry
from pykka._envelope import Envelope

from allm.supervisors.cell import Owner, Shutdown
from allm.supervisors.exits import KILLED, NORMAL, Exit, stripped

__all__ = ["Foreign"]


class Foreign:
    """A stand-in for the cell that a plain Pykka actor does not have."""

    def __init__(self, actor: pykka.Actor, owner: Owner, generation: int) -> None:
        self.ref: ActorRef[Any] = actor.actor_ref
        self.generation = generation
        self.exit: Exit | None = None
        self.started = False
        self.name = str(self.ref)
        self.busy: object = None  # not None while its loop runs
        self.abandoned: tuple[Foreign, ...] = ()
        self._owner = owner
        self._why: Exit | None = None
        self._ordered: Exit | None = None
        self._once = [True]
        self._wrap(actor)

    def launch(self, actor: pykka.Actor) -> None:
        """Register and start it, as its own `start` does."""
        ActorRegistry.register(actor.actor_ref)
        try:
            actor._start_actor_loop()  # pyright: ignore[reportPrivateUsage]
        except BaseException:
            ActorRegistry.unregister(actor.actor_ref)
            raise

    def _wrap(self, actor: pykka.Actor) -> None:
        loop, setup, failed, receive = (
            actor._actor_loop,  # pyright: ignore[reportPrivateUsage]
            actor._actor_loop_setup,  # pyright: ignore[reportPrivateUsage]
            actor._handle_failure,  # pyright: ignore[reportPrivateUsage]
            actor._handle_receive,  # pyright: ignore[reportPrivateUsage]
        )

        def run() -> None:
            self.busy = self
            try:
                loop()
            except BaseException as error:
                self._why = Exit.from_exception(error)
                ActorRegistry.unregister(actor.actor_ref)
                actor.actor_stopped.set()
            finally:
                self.busy = None
                self._report(self._why or self._ordered or NORMAL)

        def begin() -> None:
            setup()
            if not actor.actor_stopped.is_set():
                self.started = True
                self._owner.child_started(self)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

        def fail(kind: Any, value: Any, trace: Any) -> None:
            if value is not None:
                self._why = Exit.from_exception(value)
            failed(kind, value, trace)

        def handle(message: Any) -> Any:
            if self.exit is not None:  # let go of: the message only wakes its loop, which then ends
                return None
            try:
                return receive(message)
            except Exception:
                raise
            except BaseException as error:  # Pykka would stop every actor of the process
                self._why = Exit.from_exception(error)
                actor.stop()
                raise RuntimeError(str(stripped(error))) from None

        _replace(actor, _actor_loop=run, _actor_loop_setup=begin, _handle_failure=fail, _handle_receive=handle)

    def _report(self, exit: Exit) -> bool:
        try:
            self._once.pop()
        except IndexError:
            return False
        self.exit = exit
        self._owner.child_ended(self, exit)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        return True

    def put_signal(self, signal: Any) -> None:
        """A shutdown; Pykka has no other."""
        if isinstance(signal, Shutdown):
            self._ordered = signal.exit
            self.ref.stop(block=False)

    def cancel(self, exit: Exit = KILLED) -> bool:
        """Let go of it: a handler may run on, the supervisor hears no more of it."""
        if not self.exit and self.ref.is_alive():
            self.abandoned = (self,)
        self.ref.actor_stopped.set()
        ActorRegistry.unregister(self.ref)
        reported = self._report(exit)
        self.ref.actor_inbox.put(Envelope(None))
        return reported


def _replace(actor: pykka.Actor, **methods: Callable[..., Any]) -> None:
    for name, method in methods.items():
        setattr(actor, name, method)
