"""How the embedded model is trained from nothing on pictures of the rendered world."""
