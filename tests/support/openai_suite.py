"""OpenAI's end-to-end tests, to be run before further engines: a test module that imports these names and has fixtures
``server`` and ``client`` (serving ``smollm2``) runs them."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_FILE = Path(__file__).resolve().parent.parent / "server" / "routes" / "test_end_to_end.py"
_SPEC = spec_from_file_location("openai_end_to_end", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
_openai = module_from_spec(_SPEC)
_SPEC.loader.exec_module(_openai)

TestErrors = _openai.TestErrors
test_answers = _openai.test_answers
test_completions_take_text_and_ids = _openai.test_completions_take_text_and_ids
test_disconnect_aborts_the_generation = _openai.test_disconnect_aborts_the_generation
test_eight_streams_at_once = _openai.test_eight_streams_at_once
test_emoji_survive = _openai.test_emoji_survive
test_logprobs = _openai.test_logprobs
test_models = _openai.test_models
test_seeded_sampling_repeats = _openai.test_seeded_sampling_repeats
test_several_choices = _openai.test_several_choices
test_stop_string = _openai.test_stop_string
test_streaming_equals_not_streaming = _openai.test_streaming_equals_not_streaming
test_usage_in_the_stream = _openai.test_usage_in_the_stream
