"""Small templates of our own, one for each way in which real ones differ; they stand in where the corpus is absent."""

from __future__ import annotations

# Takes everything: any role, parts or text, tools, parallel calls, reasoning, an effort.
MODERN = """
{%- macro body(content) -%}
  {%- if content is string -%}{{ content }}
  {%- else -%}
    {%- for part in content -%}
      {%- if part.type == 'text' -%}{{ part.text }}{%- else -%}<pic>{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- if tools %}<tools>{% for tool in tools %}{{ tool.function | tojson }}{% endfor %}</tools>
{% endif -%}
{%- for message in messages -%}
<|{{ message.role }}|>
{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif -%}
{{ body(message.content) }}
{%- for call in message.tool_calls or [] -%}
<call>{{ call.function.name }} {{ call.function.arguments | tojson if call.function.arguments is mapping
                                 else call.function.arguments }}</call>
{%- endfor %}<|end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|assistant|>
<think>
{%- if enable_thinking is defined and not enable_thinking %}

</think>
{% endif -%}
{%- endif -%}
"""

# Text only, one system message at the start, strict alternation, call ids of nine characters, arguments as objects.
STRICT = """
{{- bos_token }}
{%- if messages[0]['role'] == 'system' -%}
  {%- set system = messages[0]['content'] %}{%- set turns = messages[1:] -%}
{%- else -%}{%- set turns = messages -%}{%- endif -%}
{%- set ns = namespace(want='user') -%}
{%- for m in turns -%}
  {%- if m['role'] == 'system' -%}{{ raise_exception('a system message must be the first') }}{%- endif -%}
  {%- if m['role'] in ('user', 'assistant') and not m.tool_calls -%}
    {%- if m['role'] != ns.want -%}{{ raise_exception('roles must alternate') }}{%- endif -%}
    {%- set ns.want = 'assistant' if ns.want == 'user' else 'user' -%}
  {%- endif -%}
  {%- if m['role'] == 'user' -%}
    {{- '[INST]' + ((system + '\n\n') if system is defined and loop.first else '') + m['content'] + '[/INST]' -}}
  {%- elif m['role'] == 'tool' -%}
    {{- '[RESULT]' + m['content'] + '[/RESULT]' -}}
  {%- elif m.tool_calls -%}
    {%- if m.tool_calls | length > 1 -%}{{ raise_exception('one call at a time') }}{%- endif -%}
    {%- set call = m.tool_calls[0] -%}
    {%- if call.id | length != 9 -%}{{ raise_exception('call ids have nine characters') }}{%- endif -%}
    {{- '[CALL]' + call.function.name -}}
    {%- for key, value in call.function.arguments.items() -%}{{ '|' + key + '=' + value | string }}{%- endfor -%}
    {{- ' ' + call.id + eos_token -}}
  {%- else -%}
    {{- m['content'] + eos_token -}}
  {%- endif -%}
{%- endfor -%}
"""

# No system role, arguments only as text, calls only where the content is null, only assistants after users.
OLD = """
{%- for m in messages -%}
  {%- if m['role'] == 'system' -%}{{ raise_exception('System role not supported') }}
  {%- elif m['role'] == 'user' -%}<U>{{ m['content'] + '</U>' }}
  {%- elif m['role'] == 'assistant' and m['content'] is none -%}
    {%- for c in m['tool_calls'] %}<C>{{ c['function']['name'] + ':' + c['function']['arguments'] }}</C>{% endfor -%}
  {%- elif m['role'] == 'assistant' -%}<A>{{ m['content'] + '</A>' }}
  {%- elif m['role'] == 'tool' -%}<R>{{ m['content'] }}</R>
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<A>{% endif -%}
"""

# Takes parts only: walks content without asking whether it is text; media have their own marks.
PARTS = """
{%- set conversation = messages -%}
{%- for turn in conversation -%}
{{ turn['role'] }}:
{%- set pieces = turn['content'] -%}
{%- for piece in pieces | selectattr('type', 'equalto', 'image') %}<image>{% endfor -%}
{%- for piece in pieces | selectattr('type', 'equalto', 'text') %} {{ piece['text'] }}{% endfor %}
{% endfor -%}
{%- if add_generation_prompt %}assistant:{% endif -%}
"""
