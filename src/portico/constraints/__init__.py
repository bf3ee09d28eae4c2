"""The request's promise as a grammar: ``response_format``, ``structured_outputs``, ``tools`` and ``tool_choice``.

answer = answer_grammar(response_format, structured_outputs)
policy = call_policy(tools, tool_choice, parallel_tool_calls)
calls = ...            # parsing: how this family writes the calls of ``policy``
frame = thinking(opens, closes, is_open=...)
constraint, left_out = compile_constraint(answer=answer, policy=policy, calls=calls, frame=frame, control_tokens=...)
checker.check(constraint)
"""

from portico.constraints.answer import OLDER, answer_grammar
from portico.constraints.compiling import Compiled, compile_constraint, json_calls, thinking
from portico.constraints.isolation import Checker, is_plain
from portico.constraints.limits import Limits
from portico.constraints.tools import CallPolicy, call_policy
from portico.constraints.trial import Vocabulary

__all__ = [
    "OLDER",
    "CallPolicy",
    "Checker",
    "Compiled",
    "Limits",
    "Vocabulary",
    "answer_grammar",
    "call_policy",
    "compile_constraint",
    "is_plain",
    "json_calls",
    "thinking",
]
