"""One file per attack, each a pure function from images to adversarial images inside the ball and inside [0, 1]."""
