"""The turn actor: drives the turn machine. It carries out what the machine wants done and tells it what came of it.

Runs on the loop. Model calls go the way of every call; their events pass straight to who watches the turn, only their ends come here.
Functions of the user (instructions, history, `halt_when`, `on_tool_error`) and the checks of answers and arguments run on the pool
(small checks without code of the user's at once), tools where `tools.py` runs them.
"""

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

from pykka import ActorRef

from allm.actors.call import Plan
from allm.actors.crews import Crew, Errand, cutting
from allm.actors.directory import Directory
from allm.actors.engine import put
from allm.actors.outgoing import FUNCTIONS, asks_functions
from allm.actors.pipe import Pipe
from allm.actors.tools import CancelTool, ToolJob, encode
from allm.actors.tools import RunTool as StartTool
from allm.actors.toolwork import said
from allm.actors.turn_plan import TurnPlan
from allm.actors.turn_slot import StepPipe, Turn
from allm.errors import AllmError, ErrorInfo
from allm.events import Event
from allm.freezing import freeze
from allm.messages import ToolCallPart
from allm.responses import Response, StepResult
from allm.supervisors import Actor, Exit, log
from allm.supervisors.here import waiting
from allm.tools import ToolContext, ToolOutcome
from allm.turn import step
from allm.turn_checks import check_answer, check_arguments, checked_at_once
from allm.turn_data import (
    ArgumentsChecked,
    Begin,
    CallModel,
    Cancel,
    CancelModel,
    CancelTools,
    Check,
    CheckAnswer,
    CheckArguments,
    Checked,
    Commit,
    Done,
    Effect,
    Emit,
    Fail,
    Failed,
    Input,
    Judge,
    Judged,
    ModelEnded,
    RunTool,
    ToolFinished,
)  # fmt: skip

__all__ = ["TurnActor"]


class Planned(NamedTuple):
    """The model call of this number is ready to be made, or could not be."""

    number: int
    plan: Plan | None
    error: ErrorInfo | None


class Looked(NamedTuple):
    """A check of what the model said in its call of this number came to this."""

    number: int
    input: Input


class TurnActor(Actor):
    """Runs one turn."""

    def __init__(self, turn: Turn, directory: Directory) -> None:
        super().__init__()
        self._turn = turn
        self._directory = directory
        self._state = turn.plan.state
        self._told: list[Event] = []
        self._jobs: dict[str, str] = {}
        self._errand: Errand | None = None

    def on_start(self) -> None:
        self._turn.actor = self.actor_ref
        # As a message: an end within the first turn would be a failed start.
        put(self.actor_ref, Cancel() if self._turn.cancel_asked else Begin())

    def on_receive(self, message: Any) -> None:
        if isinstance(message, Planned):
            self._submit(message)
        elif isinstance(message, Looked):
            self._looked(message.number, message.input)
        elif isinstance(message, Input):
            if isinstance(message, ToolFinished):
                self._jobs.pop(message.outcome.id, None)
            self._feed(message)
        else:
            super().on_receive(message)

    def on_exit(self, reason: Exit) -> None:
        self._cancel_tools(tuple(self._jobs))
        if self._errand is not None:
            self._errand.abandon()

    def _feed(self, input: Input) -> None:
        self._state, effects = step(self._state, input)
        self._turn.state = self._state
        for effect in effects:
            if isinstance(effect, Emit):
                self._told.append(effect.event)
            else:
                self._tell()
                self._carry_out(effect)
        self._tell()
        if self._state.phase == "done":
            self.exit()

    def _tell(self) -> None:
        events, self._told = self._told, []
        self._turn.emit(events)

    def _carry_out(self, effect: Effect) -> None:
        crews, plan = self._turn.runtime.crews, self._turn.plan
        match effect:
            case CallModel():
                self._call_model(effect)
            case CancelModel():
                self._cancel_model()
            case CheckAnswer() | CheckArguments():
                self._check(effect)
            case RunTool(call):
                self._run_tool(call)
            case CancelTools(ids):
                self._cancel_tools(ids)
            case Judge():
                self._ask(crews.on_tool_error, "on_tool_error", partial(_judge, plan, effect), partial(_not_judged, effect))
            case Check(made):
                self._ask(crews.halt_when, "halt_when", partial(_check, plan, made), _not_checked)
            case Done(result):
                self._turn.finish(result, None)
            case Fail(error):
                self._turn.finish(None, error.exception())
            case Emit() | Commit():
                pass  # a plain call has no journal

    # the model

    def _call_model(self, effect: CallModel) -> None:
        first, self._turn.first = self._turn.first, None
        if first is not None:
            self._submit(Planned(effect.number, first, None))
        else:
            crews, plan = self._turn.runtime.crews, self._turn.plan
            # Our own work waits behind no function of anybody's.
            asked = FUNCTIONS, partial(_planned, plan, effect), partial(_not_planned, effect.number)
            if asks_functions(plan.engine):
                self._ask(crews.history if isinstance(plan.engine.instructions, str | None) else crews.instructions, *asked)
            else:
                self._ask(crews.plans, *asked, limited=False)

    def _submit(self, planned: Planned) -> None:
        if self._state.phase != "model" or planned.number != self._state.calls:
            return
        if self._state.cancelled:
            self._feed(ModelEnded(Response(request_id=self._turn.id, model=self._turn.plan.model, finish_reason="cancelled")))
        elif planned.plan is None:
            self._feed(Failed(cast(ErrorInfo, planned.error)))
        else:
            runtime, ref = self._turn.runtime, self.actor_ref
            try:
                call = self._turn.call = runtime.prepare(planned.plan)
                call.pipe = cast(Pipe, StepPipe(self._turn, partial(_ended, ref)))
                runtime.submit(call)
            except AllmError as error:
                self._feed(Failed(error.info))

    def _cancel_model(self) -> None:
        call, self._turn.call = self._turn.call, None
        if call is not None and not call.pipe.done:
            self._turn.runtime.withdraw(call)

    # checks of what it said

    def _check(self, effect: CheckAnswer | CheckArguments) -> None:
        found = checked_at_once(effect)
        if found is not None:
            self._looked(self._state.calls, found)
            return
        number = self._state.calls
        checks = self._turn.runtime.crews.checks
        self._ask(checks, "the check of what the model said", partial(_look, effect, number), partial(_not_looked, effect, number))

    def _looked(self, number: int, input: Input) -> None:
        """Feed the outcome of a check, unless the turn has left that check behind."""
        if self._state.phase in ("answer", "arguments") and number == self._state.calls:
            self._feed(input)

    # tools

    def _run_tool(self, call: ToolCallPart) -> None:
        plan, ref = self._turn.plan, self.actor_ref
        tool = plan.tools[call.name]
        job = self._jobs[call.id] = f"{self._turn.id}/{self._state.calls}/{call.id}"
        context = ToolContext(
            context=plan.context,
            resources=self._turn.runtime.resources,
            session_id=plan.options.session_id,
            request_id=self._turn.id,
            tool_call=call,
            engine=plan.engine,
        )
        put(
            self._directory.tools,
            StartTool(
                ToolJob(
                    id=job,
                    tool=tool,
                    call=call,
                    context=context,
                    timeout=tool.timeout if tool.timeout is not None else plan.options.timeouts.tool,
                    executor=plan.functions.executor,
                    encoder=plan.functions.encoder,
                    loop=plan.loop,
                    contextvars=plan.contextvars,
                    report=partial(_tool_ended, ref),
                    checked=call.name in plan.checked,
                )
            ),
        )

    def _cancel_tools(self, ids: tuple[str, ...]) -> None:
        for id in ids:
            if (job := self._jobs.pop(id, None)) is not None:
                put(self._directory.tools, CancelTool(job))

    # functions of the user

    def _ask(
        self, crew: Crew, name: str, function: Callable[[], Any], failed: Callable[[BaseException], Any], limited: bool = True
    ) -> None:
        """Runs `function` off the loop; what it gives (or `failed` makes of its error) comes as a message. One that does not come back
        within `Timeouts.callback` has failed."""
        plan = self._turn.plan
        limit = plan.options.timeouts.callback if limited else None
        errand = self._errand = crew.start(name, partial(_attempt, name, function, failed), limit, plan.contextvars)
        errand.reply.add_done_callback(partial(_answered, self.actor_ref, errand, failed))


def _attempt(name: str, function: Callable[[], Any], failed: Callable[[BaseException], Any]) -> Any:
    try:
        return function()
    except BaseException as error:
        if not isinstance(error, AllmError):
            log.failure("function_failed", error, function=name)
        return failed(error)


def _answered(ref: ActorRef[Any], errand: Errand, failed: Callable[[BaseException], Any], reply: Any) -> None:
    if reply.error is None:
        ok, value = reply.get()
    else:
        ok, value = errand.late, failed(errand.too_late()) if errand.late else str(reply.error)
    put(ref, value if ok else Failed(ErrorInfo("engine", "callback_failed", str(value))))


def _look(effect: CheckAnswer | CheckArguments, number: int) -> Looked:
    return Looked(number, check_answer(effect) if isinstance(effect, CheckAnswer) else check_arguments(effect))


def _not_looked(effect: CheckAnswer | CheckArguments, number: int, error: BaseException) -> Looked:
    """A check that said nothing: the model is told of arguments, the caller of an answer, as that is checked by code of his."""
    what = str(error) if isinstance(error, AllmError) else said(error)
    if isinstance(effect, CheckArguments):
        return Looked(number, ArgumentsChecked((f"their check failed: {what}",) * len(effect.calls)))
    name = effect.format.name
    return Looked(number, Failed(ErrorInfo("engine", "callback_failed", f"the check of the answer against {name!r} failed: {what}")))


def _planned(plan: TurnPlan, effect: CallModel) -> Planned:
    return Planned(effect.number, plan.call(effect), None)


def _not_planned(number: int, error: BaseException) -> Planned:
    return Planned(number, None, _info(error, "the next call could not be made ready"))


def _judge(plan: TurnPlan, effect: Judge) -> Judged:
    decide = plan.functions.on_tool_error
    assert decide is not None
    verdict = _awaited(plan, decide(effect.call, effect.error.exception()))
    if verdict == "continue" or verdict == "halt":
        return Judged(effect.call.id, verdict)
    value = freeze(verdict, "on_tool_error")
    return Judged(effect.call.id, "replace", value, encode(value, plan.functions.encoder))


def _not_judged(effect: Judge, error: BaseException) -> Judged:
    info = _info(error, f"on_tool_error failed at {effect.error.message!r}")
    return Judged(effect.call.id, "halt", error=info)


def _check(plan: TurnPlan, made: StepResult) -> Checked:
    decide = plan.functions.halt_when
    assert decide is not None
    return Checked(bool(_awaited(plan, decide(made))))


def _awaited(plan: TurnPlan, value: Any) -> Any:
    """What a function gave; if that is a coroutine, what it comes to, on the caller's loop if he waits as a task."""
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    if plan.loop is None or not plan.loop.is_running():
        return asyncio.run(wait())
    future = asyncio.run_coroutine_threadsafe(wait(), plan.loop)
    with waiting(None, "waiting for a function of the caller"), cutting(future.cancel):
        return future.result()


def _not_checked(error: BaseException) -> Failed:
    return Failed(_info(error, "halt_when failed"))


def _info(error: BaseException, what: str) -> ErrorInfo:
    return error.info if isinstance(error, AllmError) else ErrorInfo("engine", "callback_failed", f"{what}: {said(error)}")


def _ended(ref: ActorRef[Any], response: Response | None, error: AllmError | None) -> None:
    if response is None:
        put(ref, Failed(error.info if error is not None else ErrorInfo("stream", "unknown", "the call ended with nothing")))
    elif response.error is not None:
        put(ref, Failed(response.error, response))
    else:
        put(ref, ModelEnded(response))


def _tool_ended(ref: ActorRef[Any], outcome: ToolOutcome) -> None:
    put(ref, ToolFinished(outcome))
