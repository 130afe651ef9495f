"""A chat template with tools, calls, results and thoughts, as Qwen 3 has it, and rows of an agent's log for it.

Written for these tests after what such templates do: tools stand in the system block, calls are JSON between marks,
results are the user's, and thoughts are kept in the answer to the last user turn only, where an empty one stands in for
none. The marks of generation say which tokens are the assistant's own.
"""

QWEN = """
{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}
{%- if tools %}
{{- '<|im_start|>system\n' + (messages[0].content + '\n\n' if messages[0].role == 'system' else '') + 'Tools:' }}
{%- for tool in tools %}{{- '\n' + tool | tojson }}{%- endfor %}{{- '<|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- for m in messages %}
{%- if m.role == 'user' %}{{- '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}
{%- elif m.role == 'tool' %}
{%- if messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\n<tool_response>\n' + m.content + '\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\n' }}{%- endif %}
{%- elif m.role == 'assistant' %}
{%- set content = m.content %}{%- set thought = m.reasoning_content or '' %}
{%- if not thought and '</think>' in content %}
{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\n') %}
{%- endif %}
{{- '<|im_start|>assistant\n' }}
{%- generation %}
{%- if loop.index0 > ns.last and (loop.last or thought) %}
{{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}{%- endif %}
{{- content }}
{%- for call in m.tool_calls or [] %}
{{- ('\n' if content else '') + '<tool_call>\n' }}
{{- {'name': call.function.name, 'arguments': call.function.arguments} | tojson + '\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>' }}
{%- endgeneration %}
{{- '\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}
"""

OPENING = {"name": "opening", "description": "When a shop opens.", "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": OPENING}]
SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = {"role": "user", "content": "When does the bakery open?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "opening", "arguments": {"shop": "bakery", "day": "café"}}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": '{"opens": 8}', "tool_call_id": "c1"}
AT_EIGHT = {"role": "assistant", "content": "At eight.", "reasoning_content": "The tool says eight."}
THANKS = {"role": "user", "content": "Thank you!"}
