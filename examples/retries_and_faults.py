"""What happens when a provider fails. The Simulator is a real HTTP server on this machine that fails as it is told.

Each call has a supervisor: a failed attempt is started again as the engine's `Retry` says. The caller sees the answer.
"""

import allm
from allm.testing import Fault, Simulator


def show(event: allm.Event) -> None:
    """Prints what supervision does; any call takes such a function as `on_event`."""
    match event:
        case allm.RetryScheduled(attempt=attempt, delay=delay, error=error):
            print(f"attempt {attempt}: {error.reason}; again in {delay:.2f} s")
        case allm.StreamRestarted(attempt=attempt, error=error):
            print(f"attempt {attempt}: {error.reason} in mid-answer; starting anew")
        case _:
            pass


with Simulator() as provider:
    engine = allm.Engine("sim:", base_url=provider.base_url("chat"), retry=allm.Retry(max_attempts=4, base_delay=0.05))

    provider.reply("The first answer, whole.")
    provider.fault(
        Fault(status=503),  # the service is unavailable
        Fault(status=429, retry_after=0.2),  # too many requests: the provider says how long to wait
        Fault(cut_after=900, reset=True),  # the connection is reset in mid-answer
    )
    print(allm.generate(engine, "Are you there?", on_event=show).text)

    # When the attempts are spent, the reason is one word of a closed list.
    provider.fault(Fault(status=503), times=4)
    try:
        allm.generate(engine, "And now?")
    except allm.AdapterError as error:
        print(f"gave up: {error.reason}, HTTP {error.status}")

    # An answer that broke off after its first words is never passed off as a whole one.
    provider.reply("These words came through, these did not.")
    provider.fault(Fault(end_after=4))
    response = allm.generate(engine, "Once more?", retry=allm.Retry.none())
    print(f"{response.finish_reason}: {response.text!r}")
    if response.error is not None:
        print(response.error.reason)
