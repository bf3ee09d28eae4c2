from vllm import __version__

if __version__ == "0.22.1":

    class VLLMValidationError(ValueError):
        """What is wrong with a request is a wrong value."""

else:

    class VLLMClientError(Exception):
        """Not a ``ValueError``."""

    class VLLMValidationError(VLLMClientError):
        """As later versions have it."""
