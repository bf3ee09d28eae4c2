from typing import Any


class SamplingParams:
    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments


class StructuredOutputsParams:
    def __init__(self, structural_tag: str) -> None:
        self.structural_tag = structural_tag
