"""model-card.md."""

from collections.abc import Mapping
from typing import Any


def render_card(predicate: Mapping[str, Any], digest: str) -> str:
    """The model card (Markdown with Hugging Face front matter)."""
    return f"# {predicate['method']['title']} {digest}\n"
