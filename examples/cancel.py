"""Three ways to stop an answer. Each ends the HTTP request at once, and keeps what had come."""

import asyncio
from itertools import islice

import allm
from allm.testing import Reply, Simulator

SLOW = Reply(text="one two three four five six seven eight nine ten", delay=0.2)

with Simulator(default=SLOW) as provider:
    engine = allm.Engine("sim:", base_url=provider.base_url("chat"))

    # 1. Leave the loop.
    print(list(islice(allm.stream_generate(engine, "Count.").text_deltas(), 3)))

    # 2. Say so, from any thread. The events come to their ordinary end.
    stream = allm.stream_generate(engine, "Count.")
    for event in stream:
        if isinstance(event, allm.TextDelta) and event.delta.strip() == "two":
            stream.cancel()
    response = stream.response()
    print(response.finish_reason, repr(response.text))

    # 3. Cancel the task that waits for it.
    async def wait_a_moment() -> None:
        try:
            async with asyncio.timeout(0.5):
                await allm.aio.generate(engine, "Count.")
        except TimeoutError:
            print("no longer waiting")

    asyncio.run(wait_a_moment())

    # The provider saw all three go.
    provider.wait_idle()
    print([request.outcome for request in provider.requests])
