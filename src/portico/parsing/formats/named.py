"""Families that write a name and JSON between tags of their own.

    <tool_call>function
    get_weather
    {"city": "Oslo"}</tool_call>

    <use_mcp_tool>
    <server_name>weather</server_name>
    <tool_name>get_weather</tool_name>
    <arguments>
    {"city": "Oslo"}
    </arguments>
    </use_mcp_tool>

    <tool: shell>
    bash ls -la</tool>

CWM writes JSON behind the name, or bare text, which goes under ``command``.
"""

from portico.parsing.arguments import Json, TextUnder
from portico.parsing.bodies import Headed
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family

STEP_AUDIO = Family(
    "step_audio_2",
    models="Step-Audio 2",
    tools={
        "step_audio_2": Calls(Headed("function\n{name}\n", Json()), open="<tool_call>", close="</tool_call>"),
    },
    ends=("<|EOT|>",),
    clues=(
        Clues(("<tool_call>function\n",), tools="step_audio_2"),
        Clues(("<tool_call>function\\n",), tools="step_audio_2"),
    ),
)
MIROTHINKER = Family(
    "mirothinker",
    models="MiroThinker",
    tools={
        "mirothinker": Calls(
            Headed(
                "«<server_name>{server}</server_name>\n»<tool_name>{name}</tool_name>\n<arguments>\n",
                Json(),
                "\n</arguments>\n",
            ),
            open="<use_mcp_tool>\n",
            close="</use_mcp_tool>",
        )
    },
    ends=("<|im_end|>",),
    clues=(Clues(("<use_mcp_tool>",), tools="mirothinker"),),
)
CWM = Family(
    "cwm",
    models="Code World Model",
    tools={"cwm": Calls(Headed("<tool:«{label}»>\n{name} ", TextUnder("command")), close="</tool>")},
    ends=("<|eot_id|>",),
    clues=(Clues(("<tool: ", "</tool>"), tools="cwm"),),
)
