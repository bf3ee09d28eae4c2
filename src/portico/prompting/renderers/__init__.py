"""Ways to write a prompt: the model's Jinja template, or the writer of a family that has none."""

from portico.prompting.renderers.base import Rendered, Renderer, RenderRequest
from portico.prompting.renderers.jinja import JinjaRenderer

__all__ = ["JinjaRenderer", "RenderRequest", "Rendered", "Renderer"]
