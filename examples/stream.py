"""The answer piece by piece, in an ordinary program without asyncio."""

import allm

engine = allm.Engine("sim:")

# Nothing is sent before the first piece is asked for. Leaving the loop ends the HTTP request at once.
for piece in allm.stream_generate(engine, "Tell me something.").text_deltas():
    print(piece, end="", flush=True)
print()

# A stream is more than text: everything that happens is an event. What they add up to is the response.
stream = allm.stream_generate(engine, "And once more.")
for event in stream:
    match event:
        case allm.RequestStarted(attempt=attempt):
            print(f"attempt {attempt}")
        case allm.TextCompleted(text=text):
            print(text)
        case _:
            pass
print(stream.response().finish_reason)
