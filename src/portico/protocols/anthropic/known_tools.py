"""The client tools that Anthropic's API names by type alone: a shell, a file editor, a memory, a computer.

A client sends ``{"type": "bash_20250124", "name": "bash"}`` and runs what comes back; the schema is known to
Anthropic's models. Other models are told it here, in their own tool format, and what they call comes back to the client
in the shape that it expects. Names and parameters are those of Anthropic's documentation.
"""

from __future__ import annotations

from typing import Any

from portico.errors import BadRequestError

__all__ = ["known_function"]

Schema = dict[str, Any]


def known_function(kind: str, tool: dict[str, Any], where: str) -> dict[str, Any] | None:
    """The function that a tool of this type is, without its name; None where the type is no such tool.

    Raises ``BadRequestError`` for a computer without the size of its display.
    """
    family, _, version = kind.rpartition("_")
    match family:
        case "bash":
            return _function(BASH_DESCRIPTION, BASH, [])
        case "text_editor":
            return _editor(version, tool)
        case "memory":
            return _function(MEMORY_DESCRIPTION, MEMORY, ["command"])
        case "computer":
            return _computer(version, tool, where)
    return None


def _function(description: str, properties: Schema, required: list[str]) -> dict[str, Any]:
    return {
        "description": description,
        "parameters": {"type": "object", "properties": properties, "required": required},
    }


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


BASH_DESCRIPTION = "Runs a command in a shell that keeps its state from call to call, and returns what it printed."
BASH: Schema = {
    "command": _text("The command to run; needed unless 'restart' is true."),
    "restart": {"type": "boolean", "description": "True starts the shell anew."},
}

VIEW_RANGE: Schema = {
    "type": "array",
    "items": {"type": "integer", "minimum": -1},
    "minItems": 2,
    "maxItems": 2,
    "description": "For 'view' of a file: its first and last line to show, counted from 1; -1 is the last line.",
}
OLD_TEXT = _text("For 'str_replace': the text to replace, which must occur exactly once.")
NEW_TEXT = _text("For 'str_replace': the text to put in its place.")
FILE_TEXT = _text("For 'create': the whole content of the file.")
INSERT_LINE: Schema = {"type": "integer", "description": "For 'insert': the line behind which to insert; 0: in front."}
INSERTED = _text("For 'insert': the text to insert.")

MEMORY_DESCRIPTION = (
    "Keeps notes in files below /memories, which outlast this conversation: view them before you begin, and write down "
    "what is worth knowing later."
)
MEMORY: Schema = {
    "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert", "delete", "rename"]},
    "path": _text("The file or directory, such as /memories/notes.txt; for all commands but 'rename'."),
    "view_range": VIEW_RANGE,
    "file_text": FILE_TEXT,
    "old_str": OLD_TEXT,
    "new_str": NEW_TEXT,
    "insert_line": INSERT_LINE,
    "insert_text": INSERTED,
    "old_path": _text("For 'rename': the path as it is."),
    "new_path": _text("For 'rename': the path as it is to be."),
}

EDITOR_DESCRIPTION = "Looks at files and directories, creates files, and changes them by replacing or inserting text."
UNDOING = ("20241022", "20250124")  # the versions that can undo, and that insert what 'new_str' says


def _editor(version: str, tool: dict[str, Any]) -> dict[str, Any]:
    undoes = version in UNDOING
    commands = ["view", "create", "str_replace", "insert", *(["undo_edit"] if undoes else [])]
    properties: Schema = {
        "command": {"type": "string", "enum": commands},
        "path": _text("The absolute path of the file or directory."),
        "view_range": VIEW_RANGE,
        "file_text": FILE_TEXT,
        "old_str": OLD_TEXT,
        "new_str": _text(f"{NEW_TEXT['description']} {INSERTED['description']}") if undoes else NEW_TEXT,
        "insert_line": INSERT_LINE,
        **({} if undoes else {"insert_text": INSERTED}),
    }
    limit = tool.get("max_characters")
    shown = f" A view shows at most {limit} characters." if isinstance(limit, int) else ""
    return _function(EDITOR_DESCRIPTION + shown, properties, ["command", "path"])


ACTIONS = [
    *("screenshot", "cursor_position", "mouse_move", "left_click", "right_click", "middle_click", "double_click"),
    *("left_click_drag", "key", "type"),
]
LATER_ACTIONS = ["triple_click", "left_mouse_down", "left_mouse_up", "scroll", "hold_key", "wait"]


def _computer(version: str, tool: dict[str, Any], where: str) -> dict[str, Any]:
    for side in ("display_width_px", "display_height_px"):
        if not isinstance(tool.get(side), int | float):
            raise BadRequestError(f"{where}.{side} must be a number of pixels.", param=f"{where}.{side}")
    actions = ACTIONS if version == "20241022" else [*ACTIONS, *LATER_ACTIONS]
    point: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2}
    properties: Schema = {
        "action": {"type": "string", "enum": actions},
        "coordinate": {**point, "description": "[x, y] in pixels from the left and the top: where to act."},
        "text": _text("For 'type': the text. For 'key' and 'hold_key': the keys, such as ctrl+s."),
    }
    if version != "20241022":
        properties |= {
            "start_coordinate": {**point, "description": "For 'left_click_drag': [x, y] where it begins."},
            "scroll_direction": {"type": "string", "enum": ["up", "down", "left", "right"]},
            "scroll_amount": {"type": "integer", "description": "For 'scroll': how many clicks of the wheel."},
            "duration": {"type": "number", "description": "For 'wait' and 'hold_key': seconds."},
        }
    if tool.get("enable_zoom") is True:
        properties["action"] = {"type": "string", "enum": [*actions, "zoom"]}
        corners = {
            "minItems": 4,
            "maxItems": 4,
            "description": "For 'zoom': [left, top, right, bottom] of what to see.",
        }
        properties["region"] = {**point, **corners}
    width, height = tool["display_width_px"], tool["display_height_px"]
    return _function(
        f"Works the mouse and keyboard of a computer with a display of {width} by {height} pixels, and takes "
        "screenshots of it. Take one to see what an action did.",
        properties,
        ["action"],
    )
