"""From logits to the next token: penalties, grammars, top-p and the draw itself."""
