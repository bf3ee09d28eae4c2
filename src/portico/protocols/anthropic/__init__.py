"""Anthropic's Messages API: ``schema`` what comes in, ``conversation`` and ``tools`` what it means to a prompt,
``messages`` a request becoming a generation, ``answer`` its deltas becoming events or a body, ``blocks`` the order of
content blocks, ``tool_input`` their JSON, ``signatures`` of thinking, ``models`` and ``errors`` their shapes."""
