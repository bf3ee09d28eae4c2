"""OpenAI's Responses API. One module per idea: ``schema`` reads bodies, ``items`` and ``conversation`` make items into
messages, ``tools`` offers tools and names their calls again, ``output`` turns events into items, ``response`` is the
object, ``stream`` the encoders, ``sealing`` what only this server reads again, ``compaction`` what replaces a past."""
