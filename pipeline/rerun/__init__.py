"""`hallmark rerun`: a bundle's own evaluation once more, from its own parameters, held against its table image by image."""
