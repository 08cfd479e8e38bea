"""Events, responses and threads are values: they go through JSON, and through pickle, and come back equal."""

import allm

engine = allm.Engine("sim:")

# Say, in a server: each event is a line for the client.
lines = [allm.to_json(event) for event in allm.stream_generate(engine, "Hello?")]
print(lines[0].decode())

# In the client: the events again, and what they add up to.
events = [allm.from_json(line) for line in lines]
response = allm.fold(events)
print(type(response).__name__, response == events[-1].response)
print(allm.text(events))

# A conversation, kept.
thread = allm.Thread().add_system("Be brief.").add_user("Hello?").add_assistant(allm.text(events))
kept = allm.to_json(thread)
assert allm.from_json(kept, allm.Thread) == thread
print(f"{len(thread.messages)} messages")
