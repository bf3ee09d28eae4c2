"""Images and sounds that a conversation brings along: fetched, decoded, and given room in the prompt.

What comes in is whatever a client sends. ``fetching`` gets its bytes, ``decoding`` makes pixels and samples of them in
a process of its own, ``senses`` puts both between a rendered prompt and the engine.
"""
