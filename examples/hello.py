"""One question, one answer.

python examples/hello.py                              a simulator on this machine: no key, no network
python examples/hello.py openai.chat:gpt-4.1-mini     the same program with OpenAI, and OPENAI_API_KEY set
"""

import sys

import allm

engine = allm.Engine(sys.argv[1] if len(sys.argv) > 1 else "sim:")

response = allm.generate(engine, "Hello! Who are you?")
print(response.text)
print(f"({response.finish_reason}, {response.usage.output_tokens} tokens)")

# A conversation is a thread. It is a plain value: adding to it gives a new one.
thread = allm.Thread().add_user("Hello! Who are you?").add_message(response.message)
thread = thread.add_user("And what can you do?")
print(allm.generate(engine, thread).text)
