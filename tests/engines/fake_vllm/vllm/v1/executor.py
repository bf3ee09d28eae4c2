from typing import Any


class Executor:
    @staticmethod
    def get_class(config: Any) -> type:
        return Executor
