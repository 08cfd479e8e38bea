"""Images: made from a prompt, edited, and seen by a model that reads them.

python examples/images.py                  a simulator on this machine: no key, no network
python examples/images.py openai:gpt-5     the same program with OpenAI, and OPENAI_API_KEY set; it writes fox.png
"""

import sys
from pathlib import Path

import allm
from allm.testing import Simulator

with Simulator(wires=("chat", "images")) as provider:
    if len(sys.argv) > 1:
        engine = allm.Engine(sys.argv[1])
    else:
        engine = allm.Engine("openai:gpt-5", base_url=provider.base_url("images"), keys={"openai": "any"})

    made = allm.generate_image(engine, "A fox in the snow.", size="1024x1024")
    fox = made.images[0]
    print(f"{fox.mime} by {made.model}, {made.usage.size}, {made.usage.output_tokens} tokens")

    hatted = allm.edit_image(engine, fox, "Put a red hat on it.").images[0]
    if len(sys.argv) > 1:
        Path("fox.png").write_bytes(hatted.to_binary())

    # What a model cannot do is found before anything is sent, and the field is named.
    try:
        allm.generate_image(engine, "A fox.", model="dall-e-3", size="256x256")
    except allm.ValidationError as error:
        print(error.message)

    question = allm.user(["What does it wear?", allm.ImagePart(hatted)])
    print(allm.generate(engine, question).text)
