"""Conditioned chat templates: what a model is asked for, written behind every turn of the user's."""

import json

from uptake.errors import InputError

_TEMPLATE = (
    "{{%- set all = namespace(messages=[]) -%}}"
    "{{%- for message in messages -%}}"
    "{{%- if message['role'] == 'user' and message['content'] is string -%}}"
    "{{%- set message = dict(message, content=message['content'] ~ {suffix}) -%}}"
    "{{%- endif -%}}"
    "{{%- set all.messages = all.messages + [message] -%}}"
    "{{%- endfor -%}}"
    "{{%- set messages = all.messages -%}}"
)


def conditioned(template: str, suffix: str) -> str:
    """The chat template under which every turn of the user's ends with `suffix`, and all else is as it was."""
    return _TEMPLATE.format(suffix=json.dumps(suffix)) + template


def spelled_reward(reward: float) -> str:
    """A reward as a model reads it: two decimals, and no minus before zero."""
    spelled = f"{reward:.2f}"
    return "0.00" if spelled == "-0.00" else spelled


def check_condition(condition: str) -> None:
    """Raise InputError where a condition does not say where the reward stands."""
    if condition.count("{reward}") != 1:
        raise InputError(repr(condition), field="condition", allowed="a text with {reward} in it, once")
