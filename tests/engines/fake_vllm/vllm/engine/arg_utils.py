import os
import time
from argparse import ArgumentParser, Namespace
from types import SimpleNamespace
from typing import Any


class AsyncEngineArgs:
    @staticmethod
    def add_cli_args(parser: ArgumentParser) -> ArgumentParser:
        parser.add_argument("--model")
        parser.add_argument("--enable-lora", action="store_true")
        parser.add_argument("--data-parallel-size", type=int, default=1)
        parser.add_argument("--scheduling-policy", default="fcfs")
        return parser

    @classmethod
    def from_cli_args(cls, options: Namespace) -> "AsyncEngineArgs":
        args = cls()
        args.options = options
        return args

    options: Namespace

    def create_engine_config(self, usage_context: Any = None) -> Any:
        assert usage_context == "OPENAI_API_SERVER", "or vLLM's defaults are those of a library"
        time.sleep(float(os.environ.get("FAKE_VLLM_LOADING", "0")))
        if self.options.model.endswith("unservable"):
            raise ValueError("no such architecture")
        model = SimpleNamespace(max_model_len=4096, max_logprobs=20, dtype="float32", get_vocab_size=lambda: 1000)
        model.is_multimodal_model = self.options.model.endswith("seeing")
        return SimpleNamespace(
            model_config=model,
            lora_config=self.options.enable_lora or None,
            parallel_config=SimpleNamespace(data_parallel_size=self.options.data_parallel_size),
        )
