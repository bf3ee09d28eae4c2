class VLLMClientError(Exception):
    """Not a ``ValueError``."""
