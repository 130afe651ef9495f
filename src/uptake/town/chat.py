"""Chat template of the town, and its special tokens."""

SPECIAL_TOKENS = ("<user>", "<assistant>", "<end>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} <end>"
    "{% if not loop.last or add_generation_prompt %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
