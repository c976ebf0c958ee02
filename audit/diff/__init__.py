"""Two models, or two recipes, compared image by image."""
