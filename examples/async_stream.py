"""Many answers at the same time, with asyncio. The same functions and the same `Stream`, with `async for`."""

import asyncio

import allm

engine = allm.Engine("sim:")


async def ask(name: str) -> str:
    """One answer, piece by piece."""
    pieces = [piece async for piece in allm.stream_generate(engine, f"Greet {name}.").text_deltas()]
    return "".join(pieces)


async def main() -> None:
    names = [f"guest {number}" for number in range(1, 101)]
    answers = await asyncio.gather(*(ask(name) for name in names))
    print(answers[0])
    print(f"{len(answers)} answers")

    # Without the pieces it is one `await`.
    response = await allm.aio.generate(engine, "Say goodbye.")
    print(response.text)


asyncio.run(main())
